use super::*;

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The first times after `start`.
fn times(expression: &str, zone: &str, start: &str, count: usize) -> Vec<String> {
    let schedule = Schedule::parse(expression, Some(zone)).unwrap();
    let mut now = time(start);
    let next = |now: &mut Timestamp| {
        *now = schedule.after(*now).unwrap();
        now.to_string()
    };
    (0..count).map(|_| next(&mut now)).collect()
}

#[test]
fn a_time_of_day_is_that_of_its_zone_in_summer_and_winter() {
    let nine = times("0 9 * * MON", "Europe/Berlin", "2026-10-20T00:00:00Z", 2);
    assert_eq!(nine, ["2026-10-26T08:00:00Z", "2026-11-02T08:00:00Z"]);
    assert_eq!(times("0 9 * * MON", "Europe/Berlin", "2026-10-13T00:00:00Z", 1), ["2026-10-19T07:00:00Z"]);
    assert_eq!(times("30 17 * * *", "Asia/Kolkata", "2026-10-13T00:00:00Z", 1), ["2026-10-13T12:00:00Z"]);
}

#[test]
fn a_time_that_the_clock_skips_is_met_when_it_skips() {
    // At 02:00 the clock goes to 03:00.
    let berlin = times("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3);
    assert_eq!(berlin, ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
    let new_york = times("30 2 * * *", "America/New_York", "2026-03-07T00:00:00Z", 3);
    assert_eq!(new_york, ["2026-03-07T07:30:00Z", "2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"]);
}

#[test]
fn a_time_that_the_clock_shows_twice_is_met_once() {
    let berlin = times("30 2 * * *", "Europe/Berlin", "2026-10-24T00:00:00Z", 3);
    assert_eq!(berlin, ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    let new_york = times("30 1 * * *", "America/New_York", "2026-10-31T00:00:00Z", 3);
    assert_eq!(new_york, ["2026-10-31T05:30:00Z", "2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"]);
}

#[test]
fn between_the_two_showings_the_next_time_is_the_next_day() {
    let schedule = Schedule::parse("30 2 * * *", Some("Europe/Berlin")).unwrap();
    for inside in ["2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:29:59Z", "2026-10-25T01:45:00Z"] {
        assert_eq!(schedule.after(time(inside)), Some(time("2026-10-26T01:30:00Z")), "{inside}");
    }
}

#[test]
fn names_steps_lists_and_the_leap_day() {
    assert_eq!(times("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", 2), ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]);
    assert_eq!(times("0 0 1 JAN *", "UTC", "2026-01-01T00:00:00Z", 1), ["2027-01-01T00:00:00Z"]);
    assert_eq!(
        times("*/20 5 * * SAT,SUN", "UTC", "2026-11-21T05:30:00Z", 2),
        ["2026-11-21T05:40:00Z", "2026-11-22T05:00:00Z"]
    );
    assert_eq!(times("0 0 * * 7", "UTC", "2026-11-21T05:30:00Z", 1), ["2026-11-22T00:00:00Z"], "7 is Sunday as 0 is");
    assert_eq!(times("0 0 1-3/2 * *", "UTC", "2026-11-01T00:00:00Z", 1), ["2026-11-03T00:00:00Z"]);
}

#[test]
fn day_of_month_and_weekday_together_are_either_of_them() {
    let either = times("0 0 13 * FRI", "UTC", "2026-11-01T00:00:00Z", 3);
    assert_eq!(either, ["2026-11-06T00:00:00Z", "2026-11-13T00:00:00Z", "2026-11-20T00:00:00Z"]);
    assert_eq!(times("0 0 13 * FRI", "UTC", "2026-12-11T00:00:00Z", 1), ["2026-12-13T00:00:00Z"]);
}

#[test]
fn the_time_itself_is_not_after_itself_and_fractions_do_not_matter() {
    assert_eq!(times("0 9 * * *", "UTC", "2026-11-01T09:00:00Z", 1), ["2026-11-02T09:00:00Z"]);
    assert_eq!(times("0 9 * * *", "UTC", "2026-11-01T08:59:59.999999999Z", 1), ["2026-11-01T09:00:00Z"]);
    assert_eq!(times("0 9 * * *", "UTC", "2026-11-01T09:00:00.5Z", 1), ["2026-11-02T09:00:00Z"]);
}

#[test]
fn what_is_no_schedule_is_named_with_what_it_should_be() {
    let error = |expression: &str, zone| Schedule::parse(expression, zone).unwrap_err().to_string();
    for expression in
        ["0 9 * *", "0 9 * * MON *", "61 * * * *", "0 9 * * FUNDAY", "weekly mon", "0 9 32 * *", "* * * * * *"]
    {
        let said = error(expression, None);
        assert!(said.starts_with(&format!("`{expression}` is not a cron expression of five fields")), "{said}");
    }
    assert_eq!(
        error("0 9 * * *", Some("Europe/Berlinn")),
        "`Europe/Berlinn` is not a time zone of the IANA database, such as Europe/Berlin or UTC"
    );
    assert_eq!(error("0 0 31 2 *", None), "`0 0 31 2 *` never comes; correct the day and the month");
}

#[test]
fn time_zones_are_in_the_program() {
    // The machines that run Bindery need no zoneinfo.
    for zone in ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "UTC", "Pacific/Auckland"] {
        assert!(k8s_openapi::jiff::tz::TimeZoneDatabase::bundled().get(zone).is_ok(), "{zone}");
        assert!(Schedule::parse("0 9 * * *", Some(zone)).is_ok(), "{zone}");
    }
}
