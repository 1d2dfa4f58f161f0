//! Names of environment variables by which a value decides what a program runs, or how. Whoever can write a payload could
//! add one, and a binding that takes all keys of it would hand it to every pod with `envFrom`.
//!
//! The list holds what loads code, names a program or a configuration that runs one, or turns checks off, in what most
//! images have. Where the names come from:
//!
//! - the dynamic linker: `ld.so(8)`, "Environment", and glibc's `sysdeps/generic/unsecvars.h`, the names that it drops for
//!   programs with privileges; `dyld(1)` of macOS
//! - shells: `bash(1)`, "Shell Variables" (`BASH_ENV`, `ENV`, `PS4`, `PROMPT_COMMAND`, exported functions)
//! - what sudo takes from the environment as dangerous: `plugins/sudoers/env.c`, `initial_badenv_table`
//! - interpreters: the pages on the environment of Python (`PYTHON*`), Perl (`perlrun`), Ruby (`ruby(1)`), Node.js
//!   (`node(1)`), PHP (`PHPRC`, `PHP_INI_SCAN_DIR`), Java (the JVM's `JAVA_TOOL_OPTIONS`, `JDK_JAVA_OPTIONS`,
//!   `_JAVA_OPTIONS`), .NET (`DOTNET_STARTUP_HOOKS`, profilers), Erlang (`ERL_FLAGS`), Lua (`LUA_INIT`), R, GNU Guile
//! - tools that run programs by name: `git(1)` (`GIT_SSH_COMMAND`, `GIT_CONFIG_*` …), pagers and editors
//! - trust: the authorities of OpenSSL (`SSL_CERT_FILE`), curl, Node.js, Python's requests, and proxies

/// Whole names.
const NAMES: [&str; 58] = [
    "PATH",
    "IFS",
    "SHELL",
    "SHELLOPTS",
    "BASHOPTS",
    "BASH_ENV",
    "BASH_LOADABLES_PATH",
    "ENV",
    "PS4",
    "PROMPT_COMMAND",
    "CDPATH",
    "GLOBIGNORE",
    "ZDOTDIR",
    "FPATH",
    "GCONV_PATH",
    "GETCONF_DIR",
    "HOSTALIASES",
    "LOCALDOMAIN",
    "LOCPATH",
    "MALLOC_TRACE",
    "NLSPATH",
    "RES_OPTIONS",
    "RESOLV_HOST_CONF",
    "TERMINFO",
    "TERMINFO_DIRS",
    "TERMCAP",
    "PERL5DB",
    "PERL5LIB",
    "PERL5OPT",
    "PERLLIB",
    "RUBYLIB",
    "RUBYOPT",
    "BUNDLE_GEMFILE",
    "GEM_HOME",
    "GEM_PATH",
    "NODE_OPTIONS",
    "NODE_PATH",
    "NODE_EXTRA_CA_CERTS",
    "NODE_TLS_REJECT_UNAUTHORIZED",
    "PHPRC",
    "PHP_INI_SCAN_DIR",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "_JAVA_OPTIONS",
    "CLASSPATH",
    "JAVA_OPTS",
    "CATALINA_OPTS",
    "LUA_INIT",
    "R_PROFILE",
    "GUILE_LOAD_PATH",
    "EDITOR",
    "VISUAL",
    "PAGER",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "OPENSSL_CONF",
];

/// Beginnings of names.
const BEGINNINGS: [&str; 14] = [
    "LD_",
    "DYLD_",
    "GLIBC_TUNABLES",
    "BASH_FUNC_",
    "PYTHON",
    "LUA_INIT_",
    "DOTNET_STARTUP_HOOKS",
    "CORECLR_",
    "COR_",
    "GIT_",
    "ERL_",
    "OPENSSL_ENGINES",
    "npm_config_",
    "NPM_CONFIG_",
];

/// Whether a program that takes this key as an environment variable runs or trusts something else by it.
#[must_use]
pub fn is_risky(key: &str) -> bool {
    let proxy = ["http_proxy", "https_proxy", "all_proxy"].iter().any(|name| key.eq_ignore_ascii_case(name));
    proxy || NAMES.contains(&key) || BEGINNINGS.iter().any(|beginning| key.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_how_programs_run_is_known_and_what_programs_are_given_to_work_with_is_not() {
        for key in [
            "LD_PRELOAD",
            "LD_AUDIT",
            "DYLD_INSERT_LIBRARIES",
            "NODE_OPTIONS",
            "PATH",
            "BASH_ENV",
            "BASH_FUNC_ls%%",
            "PYTHONSTARTUP",
            "PYTHONPATH",
            "JAVA_TOOL_OPTIONS",
            "_JAVA_OPTIONS",
            "PERL5OPT",
            "RUBYOPT",
            "GIT_SSH_COMMAND",
            "GLIBC_TUNABLES",
            "HTTPS_PROXY",
            "https_proxy",
            "SSL_CERT_FILE",
            "DOTNET_STARTUP_HOOKS",
        ] {
            assert!(is_risky(key), "{key}");
        }
        for key in [
            "DATABASE_URL",
            "S3_PATH",
            "path",
            "APP_ENV",
            "NODE_ENV",
            "TOKEN_ENCRYPTION_KEY",
            "JAVA_HOME_URL",
            "tls.crt",
            "GITHUB_TOKEN",
            "METRICS_PORT",
            "LDAP_URL",
            "COOKIE",
            "CORS_ORIGINS",
        ] {
            assert!(!is_risky(key), "{key}");
        }
    }
}
