//! Where things lie: the stack file, state folders, the image store. Pure: decides paths, touches no file.

use std::path::{Path, PathBuf};

use sovereign_lab::LabName;
use sovereign_model::StackName;

use crate::environment::{Environment, names};

/// The folder name that is ours below each XDG folder.
const OURS: &str = "sovereign";

/// The folders of this user, and what the command line and the environment say about them.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// The stack file named by the operator.
    stack_file: Option<PathBuf>,
    /// The state folder named by the operator.
    state: Option<PathBuf>,
    config_home: PathBuf,
    data_home: PathBuf,
    cache_home: PathBuf,
    /// A folder for sockets.
    sockets: PathBuf,
}

/// Neither XDG variables nor a home folder are known.
#[derive(Debug, thiserror::Error)]
#[error("cannot tell where your files belong: HOME is not set")]
pub(crate) struct NoHome;

impl NoHome {
    /// What the operator can do.
    pub(crate) fn help(&self) -> Option<String> {
        Some("set HOME to your home folder and run the command again".to_owned())
    }
}

/// Where temporary files belong, if that leaves room in the address of a unix socket.
fn sockets(environment: &Environment) -> PathBuf {
    const LONGEST: usize = 50;
    let named = environment.path(names::TMPDIR).filter(|path| path.is_absolute());
    named.filter(|path| path.as_os_str().len() <= LONGEST).unwrap_or_else(|| Path::new("/tmp").to_owned())
}

impl Places {
    /// Decides from arguments first, then the environment.
    ///
    /// # Errors
    /// [`NoHome`] when an XDG folder is needed and nothing says where it is.
    pub(crate) fn new(
        stack_file: Option<PathBuf>,
        state: Option<PathBuf>,
        environment: &Environment,
    ) -> Result<Self, NoHome> {
        let home = environment.path(names::HOME);
        let xdg = |name, below: &str| {
            environment
                .path(name)
                .or_else(|| Some(home.as_ref()?.join(below)))
                .map(|base| base.join(OURS))
                .ok_or(NoHome)
        };
        Ok(Self {
            stack_file: stack_file.or_else(|| environment.path(names::STACK)),
            state: state.or_else(|| environment.path(names::STATE)),
            config_home: xdg(names::XDG_CONFIG_HOME, ".config")?,
            data_home: xdg(names::XDG_DATA_HOME, ".local/share")?,
            cache_home: xdg(names::XDG_CACHE_HOME, ".cache")?,
            sockets: sockets(environment),
        })
    }

    /// The stack file the operator named. When there is one, nothing else is looked for.
    pub(crate) fn named_stack_file(&self) -> Option<&Path> {
        self.stack_file.as_deref()
    }

    /// Where a stack file is looked for when none is named, in order.
    pub(crate) fn usual_stack_files(&self) -> [PathBuf; 2] {
        [PathBuf::from("stack.toml"), self.default_stack_file()]
    }

    /// Where `up` writes a stack file when there is none.
    pub(crate) fn default_stack_file(&self) -> PathBuf {
        self.config_home.join("stack.toml")
    }

    /// A folder with a short name, for sockets.
    pub(crate) fn sockets(&self) -> PathBuf {
        self.sockets.clone()
    }

    /// The state folder of a stack.
    pub(crate) fn state(&self, stack: &StackName) -> PathBuf {
        self.state.clone().unwrap_or_else(|| self.data_home.join(stack.as_str()))
    }

    /// The folder of a lab.
    pub(crate) fn lab(&self, name: &LabName) -> PathBuf {
        self.data_home.join("labs").join(name.as_str())
    }

    /// The lock of what hosts of labs start from. No lab is called so.
    pub(crate) fn lab_lock(&self) -> PathBuf {
        self.data_home.join("labs/.host.json")
    }

    /// The image store, which stacks share.
    pub(crate) fn images(&self) -> PathBuf {
        self.cache_home.join("images")
    }

    /// The kept packages of Debian, which stacks share. No cache: a mirror that removed one does not give it again. No
    /// stack is called so.
    pub(crate) fn packages(&self) -> PathBuf {
        self.data_home.join(".packages")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(pairs: &[(&str, &str)]) -> Result<Places, NoHome> {
        Places::new(None, None, &Environment::of(pairs))
    }

    #[test]
    fn defaults_follow_the_home_folder() {
        let places = places(&[("HOME", "/home/ann")]).unwrap();
        assert_eq!(places.default_stack_file(), Path::new("/home/ann/.config/sovereign/stack.toml"));
        assert_eq!(places.state(&"demo".parse().unwrap()), Path::new("/home/ann/.local/share/sovereign/demo"));
        assert_eq!(places.images(), Path::new("/home/ann/.cache/sovereign/images"));
        assert_eq!(places.packages(), Path::new("/home/ann/.local/share/sovereign/.packages"));
    }

    #[test]
    fn arguments_win_over_the_environment() {
        let environment =
            Environment::of(&[("HOME", "/h"), ("SOVEREIGN_STATE", "/from-env"), ("SOVEREIGN_STACK", "env.toml")]);
        let places = Places::new(Some("arg.toml".into()), None, &environment).unwrap();
        assert_eq!(places.named_stack_file(), Some(Path::new("arg.toml")));
        assert_eq!(places.state(&"demo".parse().unwrap()), Path::new("/from-env"));
    }

    #[test]
    fn without_a_home_nothing_is_guessed() {
        assert!(places(&[]).is_err());
        assert!(
            places(&[("XDG_CONFIG_HOME", "/c"), ("XDG_DATA_HOME", "/d"), ("XDG_CACHE_HOME", "/e")]).is_ok(),
            "all three XDG folders make HOME unnecessary"
        );
    }
}
