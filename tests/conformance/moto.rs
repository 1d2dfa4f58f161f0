//! Where moto, as tests/cluster/requirements.txt pins it, is known to differ from what AWS documents.

/// The name of the row, and what moto does.
pub const DIFFERENCES: &[(&str, &str)] = &[
    ("a name has 512 characters at most", "512: accepted; 513: accepted"),
    ("a name holds ASCII letters, numbers and /_+=.@-", "those: accepted; a space: accepted; ü: accepted"),
    ("the error that nothing was found has a status", "404"),
    ("a raw call without a ClientRequestToken is refused", "accepted"),
    ("a value has 65,536 bytes at most", "65536: accepted; 65537: accepted"),
    ("PutSecretValue without a value is refused", "neither: refused as invalid; both: accepted"),
    ("UpdateSecret with the token of an existing version fails, even with the same value", "ok"),
    ("ListSecretVersionIds gives the creation date of each version", "both at one time"),
    ("a label of one's own stays on its version when AWSCURRENT moves on", "AWSCURRENT=3 AWSPREVIOUS=2"),
    ("a secret has 20 labels at most", "20: ok; 21: ok"),
    ("a read after AWSCURRENT was moved gives the other value", "accepted; plain: a; by label: b"),
    ("nor is any other label", "accepted; AWSCURRENT=1 mine=1+2"),
    ("AWSCURRENT is not taken off without a version to move it to", "accepted; AWSPREVIOUS=1"),
    (
        "a version that loses its last label is deprecated: listed only where asked for",
        "before: 2; after: 2; with IncludeDeprecated: 2",
    ),
    ("LastChangedDate moves with a label too", "as it was"),
    ("a batch has 20 ids at most", "20: accepted; 21: accepted"),
    ("a secret without a value does not fail the batch", "ResourceNotFoundException"),
    ("a batch needs ids or filters, and not both", "neither: accepted; both: refused as invalid"),
    ("a secret without a value does not fail a batch by filters", "ResourceNotFoundException"),
    ("a list has 10 filters at most", "10: accepted; 11: accepted"),
    ("a page has 100 entries at most", "0: accepted; 100: accepted; 101: accepted"),
    ("a NextToken that was not given out is refused", "HTTP 500"),
    (
        "an entry says which version has which labels, without those that have none",
        "3 versions; AWSCURRENT on the last",
    ),
    ("DescribeSecret names the versions that have labels, and no others", "3 of 3"),
    (
        "a secret that waits for its deletion is not written",
        "PutSecretValue: ok; UpdateSecret: InvalidRequestException",
    ),
    ("labels of a secret that waits for its deletion are not moved", "ok"),
    ("the name of a secret that waits for its deletion is taken", "ResourceExistsException"),
    ("a rotation needs a function", "ok; current: ResourceNotFoundException"),
    // Here and below: moto looks for the function in its own Lambda.
    (
        "a rotation begins with a version that is pending and empty; the current one stays until it ends",
        "ResourceNotFoundException",
    ),
    ("a second rotation is refused while the first is under way", "ResourceNotFoundException"),
];
