//! What carries the bytes between lapin and RabbitMQ.
//!
//! lapin takes nothing but a socket of tokio's, so it gets one end of a pair, and a task moves the bytes between the other end and RabbitMQ. What comes from there is made
//! [legible](crate::legible) on its way.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Pair;
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::legible::Frames;

/// How many bytes are moved at once.
const PIECE: usize = 16 * 1024;

/// How often it is looked at whether lapin is still there while RabbitMQ takes nothing, and how long saying goodbye may take.
const CHECK: Duration = Duration::from_secs(1);

/// A socket for lapin, which takes frames of so many bytes (0 is as many as RabbitMQ says), that leads to RabbitMQ. Each end is gone soon after the other. Needs a tokio runtime.
pub(crate) fn carry<S>(rabbitmq: S, frame_max: u32) -> io::Result<TcpStream>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (far, near) = Pair::pair()?;
    for end in [&far, &near] {
        end.set_nonblocking(true)?;
    }
    // It is read and written like any other, and nobody asks where it leads.
    let far = TcpStream::from_std(std::net::TcpStream::from(OwnedFd::from(far)))?;
    let near = UnixStream::from_std(near)?;
    tokio::spawn(async move {
        let (from, to) = split(rabbitmq);
        let ended = tokio::select! {
            ended = inwards(from, &near, Frames::new(frame_max)) => ended,
            ended = outwards(&near, to) => ended,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection to RabbitMQ has ended");
        }
    });
    Ok(far)
}

/// Until RabbitMQ sends no more.
async fn inwards(
    mut from: impl AsyncRead + Unpin,
    near: &UnixStream,
    mut frames: Frames,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    let mut legible = Vec::new();
    loop {
        let length = from.read(&mut piece).await?;
        if length == 0 {
            return Ok(());
        }
        frames.pass(piece.get(..length).unwrap_or_default(), &mut legible)?;
        let mut rest = &legible[..];
        while !rest.is_empty() {
            near.writable().await?;
            match near.try_write(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        legible.clear();
        legible.shrink_to(PIECE);
    }
}

/// Until lapin says no more, or has gone.
async fn outwards(near: &UnixStream, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        near.readable().await?;
        let length = match near.try_read(&mut piece) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        let mut writing = pin!(async {
            to.write_all(piece.get(..length).unwrap_or_default())
                .await?;
            to.flush().await
        });
        loop {
            if let Ok(written) = timeout(CHECK, &mut writing).await {
                written?;
                break;
            }
            is_there(near)?;
        }
    }
    timeout(CHECK, to.shutdown()).await.unwrap_or(Ok(()))
}

/// Fails when the other end of a pair is closed, whatever is left to read.
fn is_there(near: &UnixStream) -> io::Result<()> {
    match near.try_write(&[]) {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;
    use tokio::time::sleep;

    use super::*;

    /// Heartbeats, and bodies of many sizes.
    fn frames() -> Vec<u8> {
        let mut frames = Vec::new();
        for length in [0_u32, 1, 100, 20_000, 131_064] {
            frames.extend([8, 0, 0, 0, 0, 0, 0, 0xCE]);
            frames.extend([3, 0, 1]);
            frames.extend(length.to_be_bytes());
            frames.extend(vec![7; length as usize]);
            frames.push(0xCE);
        }
        frames
    }

    #[tokio::test]
    async fn both_sides_hear_what_the_other_one_says_to_its_last_word() {
        for last in ["RabbitMQ", "lapin"] {
            let (rabbitmq, other) = duplex(1000);
            let lapin = carry(other, 0).unwrap();
            let (mut here, mut there) = (split(lapin), split(rabbitmq));
            let sent = frames();
            let (mut heard, mut heard_there) = (vec![0; sent.len()], vec![0; sent.len()]);
            let (a, b, c, d) = tokio::join!(
                here.1.write_all(&sent),
                there.1.write_all(&sent),
                here.0.read_exact(&mut heard),
                there.0.read_exact(&mut heard_there),
            );
            for outcome in [a.map(|()| 0), b.map(|()| 0), c, d] {
                outcome.unwrap();
            }
            assert!(heard == sent && heard_there == sent);
            let (here, there) = (here.0.unsplit(here.1), there.0.unsplit(there.1));
            let mut end: Box<dyn AsyncRead + Unpin> = if last == "lapin" {
                drop(here);
                Box::new(there)
            } else {
                drop(there);
                Box::new(here)
            };
            assert_eq!(end.read(&mut heard).await.unwrap(), 0, "{last} has gone");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rabbitmq_that_reads_nothing_is_left_when_lapin_has_gone() {
        let (mut rabbitmq, other) = duplex(10);
        let mut lapin = carry(other, 0).unwrap();
        lapin.write_all(&[1; 5000]).await.unwrap();
        // Real sockets know no paused time, so as often as it takes.
        let mut byte = [0];
        rabbitmq.read_exact(&mut byte).await.unwrap();
        sleep(CHECK * 3).await;
        drop(lapin);
        let mut rest = Vec::new();
        sleep(CHECK * 3).await;
        rabbitmq.read_to_end(&mut rest).await.unwrap();
        assert!(
            rest.len() < 4999,
            "what was stuck is given up: {}",
            rest.len()
        );
    }
}
