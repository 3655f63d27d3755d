//! Servers that do not behave, on loopback.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use sovereign_dns::ask::{AskError, Asker, TransferError};
use sovereign_model::dns_message::Question;

const ASKER: Asker = Asker { patience: Duration::from_millis(500), tries: 2 };

/// A place where both can be listened at.
fn listen() -> (TcpListener, UdpSocket, SocketAddr) {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = tcp.local_addr().unwrap();
        if let Ok(udp) = UdpSocket::bind(place) {
            return (tcp, udp, place);
        }
    }
}

/// A record of the name that was asked for.
fn record(kind: u16, data: &[u8]) -> Vec<u8> {
    let mut record = b"\xc0\x0c".to_vec();
    record.extend(kind.to_be_bytes());
    record.extend(b"\0\x01\0\0\x01\x2c");
    record.extend((data.len() as u16).to_be_bytes());
    record.extend(data);
    record
}

/// An authoritative answer to a question as it came, with these records.
fn answer(question: &[u8], records: &[Vec<u8>]) -> Vec<u8> {
    let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    let mut answer = [&question[..2], b"\x84\0\0\x01"].concat();
    answer.extend((records.len() as u16).to_be_bytes());
    answer.extend(b"\0\0\0\0");
    answer.extend(&question[12..end]);
    answer.extend(records.concat());
    answer
}

fn over_tcp(tcp: &TcpListener) -> (std::net::TcpStream, Vec<u8>) {
    let (mut stream, _) = tcp.accept().unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut question = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut question).unwrap();
    (stream, question)
}

fn with_length(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

#[tokio::test]
async fn what_is_no_answer_is_put_aside_and_what_was_cut_short_is_asked_for_again() {
    let (tcp, udp, place) = listen();
    let server = thread::spawn(move || {
        let mut question = [0; 512];
        let (size, asker) = udp.recv_from(&mut question).unwrap();
        let question = &question[..size];
        let mut stray = answer(question, &[record(1, &[203, 0, 113, 66])]);
        stray[0] ^= 1;
        udp.send_to(&stray, asker).unwrap();
        let mut other = answer(question, &[record(1, &[203, 0, 113, 66])]);
        other[13] = b'f';
        udp.send_to(&other, asker).unwrap();
        udp.send_to(b"?", asker).unwrap();
        let mut cut = answer(question, &[]);
        cut[2] |= 2;
        udp.send_to(&cut, asker).unwrap();
        let (mut stream, question) = over_tcp(&tcp);
        stream.write_all(&with_length(&answer(&question, &[record(1, &[192, 0, 2, 1])]))).unwrap();
    });
    let asked = ASKER.ask(place, &Question::new("example.org", "A").unwrap()).await.unwrap();
    assert_eq!(asked.answer.iter().map(|record| record.data.as_str()).collect::<Vec<_>>(), ["192.0.2.1"]);
    server.join().unwrap();
}

#[tokio::test]
async fn who_says_nothing_is_asked_again_and_then_given_up() {
    let (_tcp, udp, place) = listen();
    let question = Question::new("example.org", "A").unwrap();
    let began = Instant::now();
    let silent = ASKER.ask(place, &question).await;
    assert!(matches!(silent, Err(AskError::Silent(_))), "{silent:?}");
    assert!(began.elapsed() >= ASKER.patience * 2);
    udp.set_nonblocking(true).unwrap();
    let mut asked = 0;
    while udp.recv_from(&mut [0; 512]).is_ok() {
        asked += 1;
    }
    assert_eq!(asked, 2);
    drop(udp);
    let began = Instant::now();
    let nobody = ASKER.ask(place, &question).await;
    assert!(matches!(nobody, Err(AskError::Unreachable(_))), "{nobody:?}");
    assert!(began.elapsed() < ASKER.patience, "nobody waits where nobody listens");
}

#[tokio::test]
async fn a_zone_without_an_end_is_given_up() {
    let (tcp, _udp, place) = listen();
    let server = thread::spawn(move || {
        let (mut stream, question) = over_tcp(&tcp);
        let soa = record(6, &[b"\0\0".to_vec(), vec![0; 20]].concat());
        stream.write_all(&with_length(&answer(&question, &[soa]))).unwrap();
        let text: Vec<Vec<u8>> = (0..240).map(|_| record(16, &[vec![250], vec![b'x'; 250]].concat())).collect();
        let more = with_length(&answer(&question, &text));
        let mut sent = 0_u64;
        while stream.write_all(&more).is_ok() {
            sent += more.len() as u64;
        }
        sent
    });
    let given_up = ASKER.transfer(place, &"example.org".parse().unwrap()).await;
    assert!(matches!(given_up, Err(TransferError::NotAZone { .. })), "{:?}", given_up.map(|records| records.len()));
    assert!(server.join().unwrap() < 40 << 20);
}
