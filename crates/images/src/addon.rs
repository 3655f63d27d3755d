//! Compiling better-sqlite3, the SQLite binding, with nothing but a C and a C++ compiler.
//!
//! The package's own way (node-gyp) needs Python and make as well. It comes to two translation units and a link, with
//! the flags of the package's `binding.gyp` and of Node's `common.gypi`; SQLite's options are read from the package's
//! `deps/defines.gypi`, so that they are the tested ones of that version. Paths on the command line are relative and
//! equal everywhere: equal compilers make equal bytes.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::child::{Running, last_lines, run};
use crate::error::At as _;
use crate::{Environment, ImageError};

/// The compilers of this machine, tried out.
#[derive(Debug, Clone)]
pub(crate) struct Compilers {
    c: Compiler,
    cxx: Compiler,
}

/// A compiler's command: a program and maybe arguments, as in `CC="ccache gcc"`.
#[derive(Debug, Clone)]
struct Compiler {
    words: Vec<String>,
    /// Compilers have settings of their own there (search paths, caches).
    environment: Environment,
}

/// What makes a C compiler different from a C++ compiler.
struct Language {
    name: &'static str,
    variable: &'static str,
    candidates: &'static [&'static str],
    kind: &'static str,
    standard: &'static str,
    /// A program with what the sources need of the language and its library.
    sample: &'static str,
}

const C: Language = Language {
    name: "C",
    variable: "CC",
    candidates: &["cc", "gcc", "clang"],
    kind: "c",
    standard: "c99",
    sample: "#include <stdint.h>\n#include <pthread.h>\nint f(void) { int64_t n = 1; return (int)n; }\n",
};

const CXX: Language = Language {
    name: "C++",
    variable: "CXX",
    candidates: &["c++", "g++", "clang++"],
    kind: "c++",
    standard: "c++20",
    sample: "#include <concepts>\n#include <mutex>\n#include <string>\n\
             template <typename T> concept Sized = requires(T t) { t.size(); };\n\
             bool f(Sized auto const& t) { return t.size() > 0; }\nbool g() { return f(std::string{}); }\n",
};

impl Compilers {
    /// Finds the compilers named in `CC` and `CXX`, or the usual ones, and tries each with a small program.
    ///
    /// Gives every problem, so that an operator installs once.
    pub(crate) fn find(environment: &Environment) -> Result<Self, Vec<ImageError>> {
        match (Compiler::find(&C, environment), Compiler::find(&CXX, environment)) {
            (Ok(c), Ok(cxx)) => Ok(Self { c, cxx }),
            (c, cxx) => Err([c.err(), cxx.err()].into_iter().flatten().collect()),
        }
    }

    /// The compilers' own names for themselves.
    pub(crate) fn versions(&self) -> Vec<String> {
        [&self.c, &self.cxx].into_iter().filter_map(Compiler::version).collect()
    }
}

impl Compiler {
    fn find(language: &Language, environment: &Environment) -> Result<Self, ImageError> {
        let named: Option<Vec<_>> =
            environment.get(language.variable).map(|words| words.split_whitespace().map(str::to_owned).collect());
        let candidates = match named {
            Some(words) if !words.is_empty() => vec![words],
            _ => language.candidates.iter().map(|name| vec![(*name).to_owned()]).collect(),
        };
        let tried = candidates.iter().map(|words| words.join(" ")).collect();
        let found = candidates
            .into_iter()
            .map(|words| Self { words, environment: environment.clone() })
            .find(|compiler| compiler.version().is_some());
        let (name, variable) = (language.name, language.variable);
        let compiler = found.ok_or(ImageError::CompilerMissing { language: name, tried, variable })?;
        compiler.try_out(language).map_err(|output| ImageError::CompilerUnfit {
            language: name,
            command: compiler.words.join(" "),
            standard: language.standard,
            output,
            variable,
        })?;
        Ok(compiler)
    }

    fn command(&self) -> Command {
        let (program, arguments) = self.words.split_first().expect("a compiler has a name");
        let mut command = Command::new(program);
        // Messages are the same everywhere.
        command.args(arguments).env_clear().envs(&self.environment.0).env("LC_ALL", "C").stdin(Stdio::null());
        command
    }

    fn version(&self) -> Option<String> {
        let output = self.command().arg("--version").output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
    }

    /// Has the sample translated to assembly, which goes to a pipe: no file is left anywhere.
    fn try_out(&self, language: &Language) -> Result<(), String> {
        let standard = format!("-std={}", language.standard);
        let mut command = self.command();
        command.args(["-x", language.kind, &standard, "-S", "-", "-o", "-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        // A compiler that does not read to the end says why on its standard error.
        let _ = child.stdin.take().map(|mut input| input.write_all(language.sample.as_bytes()));
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        match (output.status.success(), output.stdout.is_empty()) {
            (true, false) => Ok(()),
            (true, true) => Err("it wrote nothing".to_owned()),
            (false, _) => Err(last_lines(&String::from_utf8_lossy(&output.stderr))),
        }
    }
}

/// The addon on its way: started as soon as sources are there, so that it is done when the rest is.
pub(crate) struct Addon {
    compilers: Compilers,
    /// The unpacked package; objects are written beside its sources.
    folder: PathBuf,
    running: Vec<Running>,
}

impl Addon {
    /// Begins with SQLite itself, which needs nothing but the package's sources.
    pub(crate) fn start(compilers: Compilers, folder: PathBuf) -> Result<Self, ImageError> {
        let path = folder.join("deps/defines.gypi");
        let gypi = fs::read_to_string(&path).at("read", &path)?;
        let mut command = compilers.c.command();
        command.current_dir(&folder).args(["-c", "-std=c99", "-w", "-O2", "-fPIC", "-pthread", "-DNDEBUG"]);
        command.args(LARGE_FILES).args(sqlite_options(&gypi).iter().map(|option| format!("-D{option}")));
        command.args(["-Ideps/sqlite3", "deps/sqlite3/sqlite3.c", "-o", "sqlite3.o"]);
        let sqlite = Running::start("compiling SQLite", &mut command, &folder.join("sqlite3.log"))?;
        Ok(Self { compilers, folder, running: vec![sqlite] })
    }

    /// Goes on with the binding; Node's headers are in `include/node` beside the sources.
    pub(crate) fn compile_binding(&mut self) -> Result<(), ImageError> {
        let mut command = self.compilers.cxx.command();
        command.current_dir(&self.folder).args(["-c", "-std=c++20", "-w", "-O2", "-fPIC", "-pthread", "-DNDEBUG"]);
        command.args(["-fno-rtti", "-fno-exceptions", "-fno-strict-aliasing"]).args(LARGE_FILES);
        command.args(NODE_DEFINES.map(|define| format!("-D{define}")));
        command.args(["-Iinclude/node", "-Ideps/sqlite3", "src/better_sqlite3.cpp", "-o", "better_sqlite3.o"]);
        let step = "compiling the SQLite binding";
        self.running.push(Running::start(step, &mut command, &self.folder.join("binding.log"))?);
        Ok(())
    }

    /// Waits for the compilers and links; gives the finished addon.
    pub(crate) fn finish(self) -> Result<PathBuf, ImageError> {
        for running in self.running {
            running.finish()?;
        }
        let mut command = self.compilers.cxx.command();
        command.current_dir(&self.folder).args(["-shared", "-pthread", "-Wl,-Bsymbolic", "-Wl,--exclude-libs,ALL"]);
        command.args(["-Wl,--build-id=none", "-s", "better_sqlite3.o", "sqlite3.o", "-o", FILE]);
        run("linking the SQLite binding", &mut command)?;
        Ok(self.folder.join(FILE))
    }
}

/// The addon's file name, which the package looks for.
pub(crate) const FILE: &str = "better_sqlite3.node";

const LARGE_FILES: [&str; 2] = ["-D_FILE_OFFSET_BITS=64", "-D_LARGEFILE_SOURCE"];

/// What Node's `common.gypi` and node-gyp define for an addon.
const NODE_DEFINES: [&str; 7] = [
    "NODE_GYP_MODULE_NAME=better_sqlite3",
    "BUILDING_NODE_EXTENSION",
    "USING_UV_SHARED=1",
    "USING_V8_SHARED=1",
    "V8_DEPRECATION_WARNINGS=1",
    "_GLIBCXX_USE_CXX11_ABI=1",
    "__STDC_FORMAT_MACROS",
];

/// The quoted texts of the `defines` list in a gyp file.
fn sqlite_options(gypi: &str) -> Vec<&str> {
    let list = gypi.split_once("'defines': [").and_then(|(_, rest)| rest.split_once(']')).map_or("", |(list, _)| list);
    list.split('\'').skip(1).step_by(2).collect()
}

/// Loads the addon in the application as the application does, and asks the database something.
pub(crate) fn try_out(node: &Path, app: &Path) -> Result<(), ImageError> {
    const SCRIPT: &str = "const Database = require('better-sqlite3');\
        const { answer } = new Database(':memory:').prepare('select 6 * ? as answer').get(7);\
        if (answer !== 42) throw new Error(`6 * 7 = ${answer}`);";
    run("asking the database addon", Command::new(node).args(["-e", SCRIPT]).current_dir(app).env_clear()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_the_package_writes_them() {
        let gypi = "# GENERATED\n{\n  'defines': [\n    'HAVE_INT16_T=1',\n    'SQLITE_DQS=0',\n  ],\n}\n";
        assert_eq!(sqlite_options(gypi), ["HAVE_INT16_T=1", "SQLITE_DQS=0"]);
        assert_eq!(sqlite_options("no list"), [""; 0]);
    }

    #[test]
    fn missing_and_unfit_compilers_are_all_named() {
        let environment = [("CC", "no-such-compiler"), ("CXX", "true")].into_iter().collect();
        let errors = Compilers::find(&environment).unwrap_err();
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        let unfit = "the C++ compiler \"true\" does not compile a small c++20 program: it wrote nothing";
        assert_eq!(texts, ["no C compiler was found (looked for no-such-compiler)", unfit]);
        let path = std::env::var("PATH").unwrap();
        let environment = [("PATH", path.as_str()), ("CC", "cc"), ("CXX", "c++ -nostdinc")].into_iter().collect();
        let errors = Compilers::find(&environment).unwrap_err();
        assert!(matches!(&errors[..], [ImageError::CompilerUnfit { language: "C++", .. }]), "{errors:?}");
        assert!(errors[0].help().is_some());
    }
}
