//! Facts about the machine and the code, for run records, manifests and `nexa doctor`.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use sysinfo::{Disks, System};

/// The machine that a run was on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Name of the machine.
    pub name: String,
    /// Operating system and architecture, such as `linux-x86_64`.
    pub platform: String,
    /// Name of the processor.
    pub cpu: String,
    /// Threads that work is split over; no result depends on their number.
    pub threads: usize,
    /// Main memory in bytes.
    pub memory_bytes: u64,
}

impl Host {
    /// The machine that this process is on; asked once.
    pub fn current() -> &'static Self {
        static HOST: OnceLock<Host> = OnceLock::new();
        HOST.get_or_init(|| {
            let mut system = System::new();
            system.refresh_memory();
            system.refresh_cpu_list(sysinfo::CpuRefreshKind::nothing());
            Self {
                name: System::host_name().unwrap_or_else(|| "unknown".to_owned()),
                platform: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
                cpu: system
                    .cpus()
                    .first()
                    .map_or_else(|| "unknown".to_owned(), |cpu| cpu.brand().trim().to_owned()),
                threads: std::thread::available_parallelism().map_or(1, usize::from),
                memory_bytes: system.total_memory(),
            }
        })
    }
}

/// Bytes that can still be written below a path, where the system tells.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let path = path.canonicalize().ok()?;
    let disks = Disks::new_with_refreshed_list();
    disks
        .iter()
        .filter(|disk| path.starts_with(disk.mount_point()))
        .max_by_key(|disk| disk.mount_point().as_os_str().len())
        .map(sysinfo::Disk::available_space)
}

/// The state of the repository that a lab lies in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Git {
    /// Full commit id.
    pub commit: String,
    /// Whether files differed from the commit.
    pub dirty: bool,
}

impl Git {
    /// Asks `git` about a folder. `None` where there is no `git`, no repository or no commit.
    pub fn of(folder: &Path) -> Option<Self> {
        let ask = |arguments: &[&str]| {
            let output = Command::new("git").arg("-C").arg(folder).args(arguments).output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let commit = ask(&["rev-parse", "HEAD"])?;
        let dirty =
            ask(&["status", "--porcelain", "--untracked-files=no"]).is_none_or(|text| !text.is_empty());
        Some(Self { commit, dirty })
    }
}

/// The version of this build.
pub fn nexa_version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}
