//! Why a unit was built, in plain words.

use larder_cargo::table::Reason;

/// One reason as a person would say it.
pub(crate) fn in_words(reason: &Reason) -> String {
    let list = |words: &[String]| if words.is_empty() { "none".to_owned() } else { words.join(" ") };
    let value = |value: &Option<String>| value.as_ref().map_or("unset".to_owned(), |value| format!("{value:?}"));
    match reason {
        Reason::NeverBuilt => "nothing like it was built before".into(),
        Reason::Unfinished => "its last build failed or was ended".into(),
        Reason::ChangedFile(path) => format!("{} changed", path.display()),
        Reason::MissingFile(path) => format!("{} is gone", path.display()),
        Reason::NewestFileChanged { old, new } => {
            format!("it watches its whole package, of which the newest file was {old} and is {new}")
        }
        Reason::WatchedChanged => "its build script asks for other files or variables than before".into(),
        Reason::EnvChanged { name, old, new } => format!("{name} was {} and is {}", value(old), value(new)),
        Reason::CompilerChanged => "the compiler is another one".into(),
        Reason::FeaturesChanged { old, new } => format!("its features were {} and are {}", list(old), list(new)),
        Reason::DeclaredFeaturesChanged => "its manifest declares other features".into(),
        Reason::TargetChanged => "its target has another name, source, edition or flags in the manifest".into(),
        Reason::SourceChanged => "its source is another: a new version, or a package that moved".into(),
        Reason::ProfileChanged => "its profile or mode is another (build, check or test; optimisation; lints)".into(),
        Reason::RustflagsChanged { old, new } => format!("RUSTFLAGS were {} and are {}", list(old), list(new)),
        Reason::SettingsChanged => "the linker or another setting is another".into(),
        Reason::PlatformChanged => "it is for another platform".into(),
        Reason::DependencyAdded(name) => format!("it depends on {name} now"),
        Reason::DependencyRemoved(name) => format!("it no longer depends on {name}"),
        Reason::DependencyChanged(name) => format!("{name} is another: version, features or flags"),
        Reason::DependencyRebuilt(name) => format!("{name} was built again"),
        Reason::BuildScriptRerun => "its build script ran again".into(),
        Reason::IdentityChanged => "its package has another version, or something that it stands on".into(),
        Reason::Unknown => "a file was touched and is the same again, or an output was missing".into(),
    }
}
