//! The same site as it was: a process of this machine, with SQLite.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use sovereign_model::Digest;
use sovereign_model::stack::Site;
use sovereign_services::ghost::{Connection, Home, Operator, data, layout, unit};
use tokio::runtime::Runtime;

use crate::support::eventually;

pub(crate) struct Old {
    folder: tempfile::TempDir,
    image: PathBuf,
    child: Child,
}

impl Old {
    pub(crate) fn start(site: &Site, image: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, "").unwrap();
        let home = Home {
            site,
            datacenter: &site.primary,
            folder: folder.path(),
            image,
            image_digest: Digest::of("image"),
            ca_certificate: &ca,
        };
        layout(&home).write().unwrap();
        let unit = unit(&home).unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(&unit.program);
        command.args(&unit.args).env_clear().envs(&unit.env).current_dir(&unit.working_dir);
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        Self { folder, image: image.to_owned(), child }
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn operator(&self) -> Operator {
        Operator::of(self.folder())
    }

    pub(crate) fn door(&self) -> Arc<Connection> {
        Arc::new(Connection::new(self.folder().join("run/operator.sock")))
    }

    pub(crate) fn get(&self, runtime: &Runtime, host: &str, path: &str) -> (u16, String) {
        let connection = Connection::new(self.folder().join("run/ghost.sock"));
        match runtime.block_on(connection.get(host, path)) {
            Ok((status, _, body)) => (status.as_u16(), String::from_utf8_lossy(&body).into_owned()),
            Err(_) => (0, String::new()),
        }
    }

    pub(crate) fn well(&self, runtime: &Runtime, host: &str) {
        eventually("the old Ghost is well", Duration::from_secs(60), || {
            (1..500).contains(&self.get(runtime, host, "/ghost/api/admin/site/").0).then_some(())
        });
    }

    /// Ends it; what it wrote stays.
    pub(crate) fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// A copy of its database, as backups have it.
    pub(crate) fn database(&self) -> PathBuf {
        let to = self.folder().join("copy.db");
        let arguments = data::dump_arguments(&self.image, &data::database(self.folder()), &to);
        let node = self.image.join("node/bin/node");
        assert!(Command::new(node).args(arguments).status().unwrap().success());
        to
    }

    /// Runs a program of ours on a copy of its database.
    pub(crate) fn change(&self, database: &Path, statement: &str) -> PathBuf {
        let changed = self.folder().join("changed.db");
        std::fs::copy(database, &changed).unwrap();
        let script = "const [app, file, sql] = process.argv.slice(1); const Database = \
             require('node:module').createRequire(`${app}/index.js`)('better-sqlite3'); new Database(file).exec(sql)";
        let mut node = Command::new(self.image.join("node/bin/node"));
        node.args(["-e", script, "--"]).arg(self.image.join("app")).arg(&changed).arg(statement);
        assert!(node.status().unwrap().success());
        changed
    }
}

impl Drop for Old {
    fn drop(&mut self) {
        self.stop();
    }
}
