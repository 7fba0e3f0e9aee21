//! `larder why`: which units the last saved build compiled, and the reason of each.

use super::is_json;
use crate::cli::{Global, How, WhyArgs};
use crate::faults;
use crate::reasons;
use crate::report::{self, SCHEMA_VERSION, Why, WhyUnit};
use crate::request::{self, Request, Typed, UsageError};
use crate::sources::{Built, Notes};
use crate::talk::Talk;
use crate::world::World;
use anyhow::Result;
use larder_store::{Events, Header, Snapshot, Store};
use std::time::Duration;

pub(super) fn run(global: &Global, args: &WhyArgs) -> Result<u8> {
    let talk = Talk::new(global);
    let dir = request::work_dir(args.which.workspace.as_deref())?;
    let typed = Typed { job: args.which.job.clone(), canonical: args.which.canonical, ..Typed::default() };
    let settings = request::settings(global, &dir, &typed)?;
    let world = World::find(&dir, &[], &settings, &talk);
    let request = Request::resolve(&args.which, &How::default(), &settings, &dir, &[], &world)?;
    let store = faults::open(&settings.store.value, &talk)?;
    let job = settings.job.value.as_deref();
    let Some((header, notes)) = newest(&store, &request, &world, job, &talk)? else {
        talk.say("no build of this workspace was saved yet: `larder run -- cargo build` saves one");
        if is_json(global) {
            report::print_json(&Why { schema_version: SCHEMA_VERSION, ..Why::default() })?;
        }
        return Ok(0);
    };
    let is_meant = |built: &&Built| args.unit.as_deref().is_none_or(|unit| matches(built, unit));
    let built: Vec<&Built> = notes.built.iter().filter(is_meant).collect();
    if let Some(unit) = &args.unit
        && built.is_empty()
    {
        let known = notes.units.units.iter().any(|known| is_named(&known.package, &known.target, unit));
        if !known {
            return Err(UsageError(format!("the last saved build knows no unit or crate {unit:?}")).into());
        }
    }
    let why = Why {
        schema_version: SCHEMA_VERSION,
        snapshot: Some(header.id.clone()),
        key: Some(header.key.clone()),
        since: notes.since.clone(),
        fresh: (notes.units.units.len() - notes.built.len().min(notes.units.units.len())) as u64,
        units: built.iter().map(|built| unit(built)).collect(),
    };
    if is_json(global) {
        report::print_json(&why)?;
    } else {
        report::print(&text(&why, args.unit.as_deref()))?;
    }
    Ok(0)
}

/// The newest snapshot of the place that says what was built; of the job, if one was named.
fn newest(
    store: &Store,
    request: &Request,
    world: &World,
    job: Option<&str>,
    talk: &Talk,
) -> Result<Option<(Header, Notes)>> {
    for found in store.find_all(&request.place)? {
        match Snapshot::load_provenance(&found.path) {
            Ok((header, provenance)) => {
                let same = |job: &str| header.parts.iter().any(|(name, value)| name == "job" && value == job);
                if let Some(notes) = Notes::of(&provenance, &world.names).filter(|_| job.is_none_or(same)) {
                    return Ok(Some((header, notes)));
                }
            }
            Err(larder_store::Error::Fs(e)) if e.is_not_found() => {}
            Err(error) => talk.warn(&format!("{:#}", anyhow::Error::from(error))),
        }
    }
    Ok(None)
}

fn matches(built: &Built, wanted: &str) -> bool {
    is_named(&built.package, &built.target, wanted) || built.id.hash == wanted
}

fn is_named(package: &str, target: &str, wanted: &str) -> bool {
    package == wanted || package.replace('-', "_") == wanted || target == wanted
}

fn unit(built: &Built) -> WhyUnit {
    WhyUnit {
        package: built.package.clone(),
        target: built.target.clone(),
        hash: built.id.hash.clone(),
        profile: String::from_utf8_lossy(&built.id.root).into_owned(),
        ms: built.millis,
        consequence: built.reasons.iter().all(larder_cargo::table::Reason::is_consequence),
        reasons: built.reasons.iter().map(reasons::in_words).collect(),
    }
}

fn text(why: &Why, wanted: Option<&str>) -> String {
    let snapshot = why.snapshot.as_deref().unwrap_or_default();
    let time = |ms: u64| format!("{:.1} s", Duration::from_millis(ms).as_secs_f64());
    let mut out = match (why.units.len(), wanted) {
        (0, Some(wanted)) => return format!("{wanted}: everything of it was fresh in {snapshot}\n"),
        (0, None) => return format!("nothing was built: all {} units were fresh in {snapshot}\n", why.fresh),
        (count, _) => {
            let ms = why.units.iter().map(|unit| unit.ms).sum();
            let since = why.since.as_deref().map_or("nothing".to_owned(), |since| format!("the snapshot {since}"));
            let units = if count == 1 { "1 unit was".to_owned() } else { format!("{count} units were") };
            format!("{units} built in {} on top of {since}, {} were fresh\n", time(ms), why.fresh)
        }
    };
    let (followers, roots): (Vec<&WhyUnit>, Vec<&WhyUnit>) = why.units.iter().partition(|unit| unit.consequence);
    for unit in &roots {
        out.push_str(&format!("{} {} ({})\n", unit.package, unit.target, time(unit.ms)));
        unit.reasons.iter().for_each(|reason| out.push_str(&format!("    {reason}\n")));
    }
    if !followers.is_empty() && wanted.is_none() {
        out.push_str(&format!("and {} more, because what they depend on was built:\n", followers.len()));
    }
    for unit in followers {
        let because = unit.reasons.join("; ");
        out.push_str(&format!("    {} {} ({}): {because}\n", unit.package, unit.target, time(unit.ms)));
    }
    out
}
