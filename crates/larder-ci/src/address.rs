//! Addresses of repositories: which may be used, what of one may be written down, and where a sibling is.
//!
//! An address may carry a password, and may be a program to run (`ext::sh -c …`). What is kept of one here is plain:
//! `https`, `http`, `ssh`, `git` or `file`, a host, a path. A user's name stays only where a connection by ssh needs it.

use std::fmt;

/// No address is longer.
const MAX: usize = 2048;

/// An address without anything secret in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(String);

/// Why an address cannot be used. Nothing of the address is in it but what is no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadAddress(&'static str);

/// Name and password that stood in an address.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The host, with its port, that they are for; with the scheme in front.
    pub origin: String,
    /// Percent-decoded.
    pub user: String,
    /// Percent-decoded; empty where there was none.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The parts of a text that might be an address.
enum Parts<'a> {
    Url {
        scheme: &'a str,
        authority: &'a str,
        path: &'a str,
    },
    /// `user@host:path`
    Scp {
        authority: &'a str,
        path: &'a str,
    },
    Path(&'a str),
}

fn split(text: &str) -> Result<Parts<'_>, BadAddress> {
    if let Some((scheme, rest)) = text.split_once("://") {
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        return Ok(Parts::Url { scheme, authority, path });
    }
    // Before its first slash only a remote one has a colon; two of them name a program.
    match (text.find(':'), text.find('/')) {
        (Some(colon), slash) if slash.is_none_or(|slash| colon < slash) => {
            let (authority, path) = (&text[..colon], &text[colon + 1..]);
            match path.starts_with(':') {
                true => Err(BadAddress("it names a program to run")),
                false => Ok(Parts::Scp { authority, path }),
            }
        }
        _ => Ok(Parts::Path(text)),
    }
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (bytes[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                at += 3;
            }
            (byte, _, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inner, rest)) => {
            let is_v6 = !inner.is_empty() && inner.bytes().all(|b| b.is_ascii_hexdigit() || b == b':' || b == b'.');
            return is_v6 && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port));
        }
        None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    !name.is_empty() && !name.starts_with(['-', '.']) && name.bytes().all(is_name) && port.is_none_or(is_port)
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_user(user: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'+');
    !user.is_empty() && !user.starts_with('-') && user.bytes().all(is_plain)
}

fn is_path(path: &str) -> bool {
    !path.is_empty() && !path.starts_with('-') && path.chars().all(|c| !c.is_control() && !is_unseen(c))
}

/// Characters that nobody sees, or that turn the direction of what follows.
fn is_unseen(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

impl Address {
    /// Takes an address as people write it: an address proper, `user@host:path`, or an absolute path. What was secret in
    /// it is returned beside it and is not in it.
    ///
    /// # Errors
    ///
    /// Where it is none that git should be given.
    pub fn clean(text: &str) -> Result<(Self, Option<Credentials>), BadAddress> {
        if text.is_empty() || text.len() > MAX {
            return Err(BadAddress("it is empty, or longer than any address"));
        }
        if text.chars().any(|c| c.is_control() || is_unseen(c)) {
            return Err(BadAddress("it holds characters that no address has"));
        }
        match split(text)? {
            Parts::Url { scheme, authority, path } => {
                let scheme = scheme.to_ascii_lowercase();
                // Everything up to the last @: passwords may hold one.
                let (login, host) =
                    authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
                // What is behind a ? or # is no part of a path, and may be a token.
                let path = path.split(['?', '#']).next().unwrap_or_default();
                if scheme == "file" {
                    return match host.is_empty() && login.is_none() && path.starts_with('/') && is_path(path) {
                        true => Ok((Self(format!("file://{path}")), None)),
                        false => Err(BadAddress("a file address needs an absolute path and no host")),
                    };
                }
                let host = host.split(['?', '#']).next().unwrap_or_default();
                if !is_host(host) {
                    return Err(BadAddress("it names no host"));
                }
                if !is_path(path) || path == "/" {
                    return Err(BadAddress("it names no repository"));
                }
                match scheme.as_str() {
                    "https" | "http" | "git" => {
                        let origin = format!("{scheme}://{host}");
                        let credentials = login.filter(|login| !login.is_empty()).map(|login| {
                            let (user, password) = login.split_once(':').unwrap_or((login, ""));
                            Credentials { origin: origin.clone(), user: decoded(user), password: decoded(password) }
                        });
                        Ok((Self(format!("{origin}{path}")), credentials))
                    }
                    "ssh" | "git+ssh" | "ssh+git" => {
                        let user = login.map(|login| login.split(':').next().unwrap_or_default());
                        match user {
                            Some(user) if is_user(user) => Ok((Self(format!("ssh://{user}@{host}{path}")), None)),
                            Some(_) => Err(BadAddress("it names no user that ssh would take")),
                            None => Ok((Self(format!("ssh://{host}{path}")), None)),
                        }
                    }
                    _ => Err(BadAddress("only https, http, ssh, git and file addresses are used")),
                }
            }
            Parts::Scp { authority, path } => {
                let (user, host) =
                    authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
                if host.contains(':') || !is_host(host) || !user.is_none_or(is_user) || !is_path(path) {
                    return Err(BadAddress("it names no host, user and path that ssh would take"));
                }
                let path = path.split(['?', '#']).next().unwrap_or_default();
                let user = user.map(|user| format!("{user}@")).unwrap_or_default();
                Ok((Self(format!("{user}{host}:{path}")), None))
            }
            Parts::Path(path) => match path.starts_with('/') {
                true => Ok((Self(format!("file://{path}")), None)),
                false => Err(BadAddress("it is neither an address nor an absolute path")),
            },
        }
    }

    /// Takes an address that must be clean already.
    ///
    /// # Errors
    ///
    /// Where it could not be used, or something secret would have to be taken from it.
    pub fn parse(text: &str) -> Result<Self, BadAddress> {
        match Self::clean(text)? {
            (address, None) if address.0 == text => Ok(address),
            _ => Err(BadAddress("it is not in its plain form")),
        }
    }

    /// The address, safe to show and to write down.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The server, as far as the address tells: what is in front of the path.
    pub fn server(&self) -> &str {
        let (from, end) = self.0.find("://").map_or((0, ':'), |at| (at + 3, '/'));
        &self.0[..self.0[from..].find(end).map_or(self.0.len(), |at| from + at)]
    }

    /// The path on this machine, where it is one.
    pub fn local_path(&self) -> Option<&str> {
        self.0.strip_prefix("file://")
    }

    /// Where the repository `name` of the same owner is. With `.git` at its end as this one has.
    pub fn beside(&self, name: &str) -> Option<Self> {
        let trimmed = self.0.trim_end_matches('/');
        let suffix = if trimmed.ends_with(".git") { ".git" } else { "" };
        let cut = trimmed.rfind(['/', ':'])?;
        let base = &trimmed[..=cut];
        Self::parse(&format!("{base}{name}{suffix}")).ok()
    }

    /// The same with or without `.git` at its end: servers take both, folders have one.
    pub fn other_spelling(&self) -> Option<Self> {
        let other = self.0.strip_suffix(".git").map_or_else(|| format!("{}.git", self.0), str::to_owned);
        Self::parse(&other).ok()
    }

    /// What `relative`, beginning with `./` or `../`, means beside this address, as git reads it in `.gitmodules`.
    ///
    /// # Errors
    ///
    /// Where that is no address.
    pub fn join(&self, relative: &str) -> Result<Self, BadAddress> {
        let mut base = self.0.trim_end_matches('/').to_owned();
        let mut rest = relative;
        // Nothing leads out of the host.
        let floor = base.find("://").map_or(0, |at| base[at + 3..].find('/').map_or(base.len(), |path| at + 3 + path));
        let out = BadAddress("it leads out of its host");
        loop {
            if let Some(after) = rest.strip_prefix("./") {
                rest = after;
            } else if let Some(after) = rest.strip_prefix("../") {
                let cut =
                    base.rfind(['/', ':']).filter(|cut| *cut >= floor && *cut + 1 < base.len()).ok_or(out.clone())?;
                let colon = base.as_bytes()[cut] == b':';
                base.truncate(if colon { cut + 1 } else { cut });
                rest = after;
            } else {
                break;
            }
        }
        let between = if base.ends_with(':') { "" } else { "/" };
        Self::parse(&format!("{base}{between}{rest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(text: &str) -> String {
        Address::clean(text).map_or_else(|error| error.to_string(), |(address, _)| address.to_string())
    }

    #[test]
    fn nothing_secret_stays() {
        assert_eq!(clean("https://github.com/acme/one.git"), "https://github.com/acme/one.git");
        assert_eq!(clean("https://u:s3cr@t@host:8443/acme/one?token=x#y"), "https://host:8443/acme/one");
        assert_eq!(clean("https://ghp_token@github.com/acme/one"), "https://github.com/acme/one");
        assert_eq!(clean("ssh://git:pw@host:22/acme/one"), "ssh://git@host:22/acme/one");
        assert_eq!(clean("git@github.com:acme/one.git"), "git@github.com:acme/one.git");
        assert_eq!(clean("host:one"), "host:one");
        assert_eq!(clean("/srv/git/one"), "file:///srv/git/one");
        assert_eq!(clean("file:///srv/git/one"), "file:///srv/git/one");
        assert_eq!(clean("HTTP://[::1]:80/x"), "http://[::1]:80/x");
        let (_, credentials) = Address::clean("https://us%40er:p%3Aw@host/x/y").unwrap();
        let credentials = credentials.unwrap();
        assert_eq!(
            (&*credentials.origin, &*credentials.user, &*credentials.password),
            ("https://host", "us@er", "p:w")
        );
        assert!(!format!("{credentials:?}").contains("p:w"));
    }

    #[test]
    fn what_git_should_not_be_given_is_refused() {
        for bad in [
            "",
            "one",
            "../one",
            "ext::sh -c touch% /tmp/x",
            "ext::x/y",
            "fd::17/foo",
            "-upload-pack=x",
            "--upload-pack=/x",
            "-oProxyCommand=x:y",
            "ssh://-oProxyCommand=x/y",
            "ssh://-l@host/y",
            "https://",
            "https://host",
            "https://host/",
            "https://ho st/x",
            "https:///x",
            "ftp://host/x",
            "file://host/x",
            "file://x",
            "javascript://host/x",
            "https://host/x\ny",
            "https://host/\u{202e}x",
            "host:-x",
            "-host:x",
            "a b:x",
        ] {
            assert!(Address::clean(bad).is_err(), "{bad}");
        }
        for unclean in ["https://u:p@host/x", "https://host/x?y", "/srv/x", "HTTPS://host/x"] {
            assert!(Address::parse(unclean).is_err(), "{unclean}");
        }
    }

    #[test]
    fn siblings_are_beside() {
        let of = |text: &str| Address::parse(text).unwrap().beside("two").unwrap().to_string();
        assert_eq!(of("https://github.com/acme/one.git"), "https://github.com/acme/two.git");
        assert_eq!(of("https://github.com/acme/one"), "https://github.com/acme/two");
        assert_eq!(of("git@github.com:acme/one.git"), "git@github.com:acme/two.git");
        assert_eq!(of("host:one"), "host:two");
        assert_eq!(of("file:///srv/git/one.git"), "file:///srv/git/two.git");
        let server = |text: &str| Address::parse(text).unwrap().server().to_owned();
        assert_eq!(server("https://host:1/acme/one"), "https://host:1");
        assert_eq!((server("git@host:acme/one"), server("file:///a/b")), ("git@host".into(), "file://".into()));
        let join = |relative: &str| Address::parse("https://host/acme/one.git").unwrap().join(relative).unwrap();
        assert_eq!(join("../two.git").as_str(), "https://host/acme/two.git");
        assert_eq!(join("../../other/two").as_str(), "https://host/other/two");
        assert!(Address::parse("https://host/one").unwrap().join("../../../../x").is_err());
        let other = |text: &str| Address::parse(text).unwrap().other_spelling().unwrap().to_string();
        assert_eq!((other("file:///a/b.git"), other("file:///a/b")), ("file:///a/b".into(), "file:///a/b.git".into()));
    }
}
