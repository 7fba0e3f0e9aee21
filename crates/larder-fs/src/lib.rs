//! The only room with system calls, `std::fs` and `unsafe` code.
//!
//! Architecture invariant: nothing here knows of stores, cargo or users. Everything that touches a
//! tree goes through [`Dir`], a handle on a directory, so that no symbolic link inside a tree is
//! ever followed and paths longer than the kernel's limit work.
//!
//! Every operation reports its name and path when it fails ([`Error`]), and every operation can be
//! made to fail by tests (`fault`, behind the feature `fault-injection`).

mod copy;
mod dir;
mod error;
pub mod fault;
mod file;
mod lock;
mod meta;
pub mod mount;
pub mod process;
pub mod scratch;
pub mod subvolume;
mod usage;
mod volume;
mod walk;
pub mod world;

pub use copy::{CopyMethod, Reflink, clone_file, copy_contents, digest_file};
pub use dir::{Dir, Entry};
pub use error::{Error, Result};
pub use file::{
    canonicalize, create_parents, exists, file_meta, finish_file, metadata, read, read_optional, read_up_to,
    remove_tree, resolve, resolve_fully, set_length, set_up_file, sync_file, write_new,
};
pub use lock::{Lock, LockKind};
pub use meta::{CLOCK_TICK, Kind, Meta, Timestamp};
pub use usage::{Usage, Usages, top_of_volume, usage};
pub use volume::{FsType, Space, Volume};
pub use walk::{Choose, DirNode, FileNode, SpecialNode, SymlinkNode, Tree, walk, walk_chosen};
