//! A responder that does nothing but read and write: what the machine itself costs.
//!
//! An epoll per thread, a listening socket per thread (`SO_REUSEPORT`), and for whatever arrives on a connection one
//! write of an answer that was ready before anybody asked. It does not look at requests, so the page and the asset have
//! a port each. No server that does look can use less.

use std::convert::Infallible;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

use super::server::{Role, Server, folder, spawn};
use super::site::Site;
use crate::run::{Deadline, cargo, run, target};
use crate::stack::{Ended, free_ports};

/// Connections that wait to be taken.
const BACKLOG: i32 = 4096;
/// Events taken at a time.
const EVENTS: usize = 256;
/// A compiler from nothing.
const BUDGET: Duration = Duration::from_secs(5 * 60);

/// Builds this very program with the optimisation that the others have.
///
/// # Errors
/// When it does not build.
pub(super) fn build() -> Result<PathBuf> {
    run(&mut cargo(["build", "--release", "--locked", "--package=xtask"]), Deadline::after(BUDGET))?;
    Ok(target().join("release/xtask"))
}

/// Starts it as a process of its own.
///
/// # Errors
/// When it does not come up.
pub(super) fn start(site: &Site, program: &Path) -> Result<Server> {
    let folder = folder(site, "bare")?;
    let [page, asset] = free_ports()?;
    let mut command = Command::new("setsid");
    command.arg(program).arg("bare").arg(page.to_string()).arg(site.files.join("page.html"));
    command.arg(asset.to_string()).arg(site.files.join("asset.bin"));
    let child = spawn(command, &folder, page)?;
    Ok(Server {
        name: "bare responder",
        version: "reads, writes, and looks at nothing".to_owned(),
        role: Role::Limit,
        plain: Some(page),
        tls: None,
        asset: Some(asset),
        root: child.id(),
        folder,
        _running: Box::new(Ended(child)),
    })
}

/// `bare PORT FILE...`: what that process does, for ever.
///
/// # Errors
/// When it cannot listen.
pub(crate) fn serve(args: &[&str]) -> Result<Infallible> {
    let mut answers = Vec::new();
    for pair in args.chunks(2) {
        let [port, file] = pair else { bail!("`bare` takes pairs of a port and a file") };
        let body = fs::read(file).with_context(|| format!("cannot read {file}"))?;
        answers.push((port.parse()?, ready(&body)));
    }
    let answers: Arc<[(u16, Vec<u8>)]> = answers.into();
    let threads = thread::available_parallelism()?.get();
    let threads: Vec<_> =
        (0..threads).map(|_| answers.clone()).map(|answers| thread::spawn(move || turn(&answers))).collect();
    for thread in threads {
        if let Ok(Err(error)) = thread.join() {
            return Err(error);
        }
    }
    bail!("no thread is left")
}

/// A head like those of the others, and the body.
fn ready(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\netag: \"1\"\r\nage: 1\r\n\
         cache-control: public, max-age=86400\r\nlast-modified: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
         date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

struct Connection {
    socket: TcpStream,
    /// Which answer it gets.
    answer: usize,
    /// How much of it was taken; all of it between two requests.
    taken: usize,
}

/// One thread's life.
fn turn(answers: &[(u16, Vec<u8>)]) -> Result<Infallible> {
    let events = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let listeners = answers.iter().map(|(port, _)| listener(*port)).collect::<Result<Vec<_>>>()?;
    for listener in &listeners {
        epoll::add(&events, listener, token(listener), EventFlags::IN)?;
    }
    // By descriptor: the kernel gives small numbers.
    let mut open: Vec<Option<Connection>> = Vec::new();
    let mut request = [0; 16 << 10];
    let mut ready = Vec::with_capacity(EVENTS);
    loop {
        match epoll::wait(&events, spare_capacity(&mut ready), None) {
            Err(rustix::io::Errno::INTR) => continue,
            waited => waited?,
        };
        for event in ready.drain(..) {
            let at = usize::try_from(event.data.u64())?;
            if let Some(answer) = listeners.iter().position(|listener| listener.as_raw_fd() as usize == at) {
                while let Ok((socket, _)) = listeners[answer].accept() {
                    socket.set_nonblocking(true)?;
                    socket.set_nodelay(true)?;
                    epoll::add(&events, &socket, token(&socket), EventFlags::IN)?;
                    let at = usize::try_from(socket.as_raw_fd())?;
                    open.resize_with(open.len().max(at + 1), || None);
                    open[at] = Some(Connection { socket, answer, taken: 0 });
                }
                continue;
            }
            let Some(connection) = open.get_mut(at).and_then(Option::as_mut) else { continue };
            if connection.go_on(&answers[connection.answer].1, event.flags, &events, &mut request).is_err() {
                open[at] = None;
            }
        }
    }
}

impl Connection {
    /// Answers, or goes on with an answer. An error ends the connection.
    fn go_on(
        &mut self,
        answer: &[u8],
        flags: EventFlags,
        events: impl AsFd,
        request: &mut [u8],
    ) -> std::io::Result<()> {
        let resumed = flags.contains(EventFlags::OUT);
        if !resumed {
            match self.socket.read(request) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => self.taken = 0,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        while self.taken < answer.len() {
            match self.socket.write(&answer[self.taken..]) {
                Ok(written) => self.taken += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(epoll::modify(events, &self.socket, token(&self.socket), EventFlags::OUT)?);
                }
                Err(error) => return Err(error),
            }
        }
        if resumed {
            epoll::modify(events, &self.socket, token(&self.socket), EventFlags::IN)?;
        }
        Ok(())
    }
}

fn token(descriptor: &impl AsFd) -> EventData {
    EventData::new_u64(descriptor.as_fd().as_raw_fd().unsigned_abs().into())
}

/// A listening socket of this thread's own.
fn listener(port: u16) -> Result<TcpListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}
