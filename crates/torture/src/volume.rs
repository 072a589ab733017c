//! An ext4 file system of its own in a file, through a loop device: its power can be cut, and it can be full. Unmounted
//! and removed when dropped.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::broker::{find, run};

/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`: what is not on the device is gone, the journal's unwritten
/// part included, and every later write fails (fs/ext4/ext4.h, documented in ext4's ioctl table).
const CUT: &str = "import fcntl, os, struct, sys\n\
                   fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";

const UNMOUNT_LIMIT: Duration = Duration::from_secs(20);

/// What this machine lacks, exactly.
pub fn missing() -> Option<String> {
    let programs = ["mkfs.ext4", "losetup", "mount", "umount", "python3", "truncate", "id"];
    if let Some(program) = programs.iter().find(|program| find(program).is_none()) {
        return Some(format!("the program {program}"));
    }
    if run("id", &["-u"]).as_deref() != Ok("0") {
        return Some("root, for loop devices and mount".to_owned());
    }
    match run("losetup", &["--find"]) {
        Ok(_) => None,
        Err(why) => Some(format!("a free loop device ({why})")),
    }
}

pub struct Volume {
    image: PathBuf,
    device: String,
    at: PathBuf,
    mounted: bool,
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

impl Volume {
    /// Makes a file system of `bytes` in a sparse file below `directory` and mounts it there.
    pub fn make(directory: &Path, bytes: u64) -> Result<Volume, String> {
        let at = directory.join("volume");
        std::fs::create_dir_all(&at).map_err(|error| format!("{}: {error}", at.display()))?;
        let image = directory.join("volume.img");
        run("truncate", &["-s", &bytes.to_string(), &text(&image)])?;
        run("mkfs.ext4", &["-q", "-F", "-m", "0", &text(&image)])?;
        let device = run("losetup", &["--find", "--show", &text(&image)])?;
        let mut volume = Volume { image, device, at, mounted: false };
        volume.mount()?;
        Ok(volume)
    }

    pub fn path(&self) -> &Path {
        &self.at
    }

    pub fn mount(&mut self) -> Result<(), String> {
        run("mount", &["-t", "ext4", &self.device, &text(&self.at)])?;
        self.mounted = true;
        Ok(())
    }

    /// The power goes: what was not synced is lost.
    pub fn cut(&self) -> Result<(), String> {
        run("python3", &["-c", CUT, &text(&self.at)]).map(drop)
    }

    /// A process that was killed a moment ago may hold it for another moment.
    pub fn unmount(&mut self) -> Result<(), String> {
        let start = Instant::now();
        loop {
            match run("umount", &[&text(&self.at)]) {
                Ok(_) => break,
                Err(why) if start.elapsed() > UNMOUNT_LIMIT => return Err(why),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        self.mounted = false;
        Ok(())
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if self.mounted {
            let _ = self.unmount();
        }
        let _ = run("losetup", &["--detach", &self.device]);
        let _ = std::fs::remove_file(&self.image);
    }
}
