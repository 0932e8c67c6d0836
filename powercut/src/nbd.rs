//! The disk as the virtual machine sees it: a network block device (NBD) on a Unix socket.
//!
//! One connection, the part of the protocol that qemu needs: handshake with GO, then read, write with
//! FUA, flush. Of the requests that wait at the same time the flushes are answered first: a flush
//! covers the writes that were answered before it came, and no other.
//!
//! Protocol: <https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md>. Big-endian.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};

use crate::disk::{BLOCK_BYTES, Disk};

const OPTION_ABORT: u32 = 2;
const OPTION_GO: u32 = 7;
const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const REPLY_UNSUPPORTED: u32 = 0x8000_0001;
const HAS_FLAGS: u16 = 1;
const SEND_FLUSH: u16 = 1 << 2;
const SEND_FUA: u16 = 1 << 3;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
const REQUEST_BYTES: usize = 28;
/// qemu's limit for one request is 32 MiB.
const LENGTH_MAX: u32 = 64 << 20;

#[derive(Debug)]
struct Request {
    flags: u16,
    kind: u16,
    cookie: [u8; 8],
    offset: u64,
    length: u32,
    data: Vec<u8>,
}

/// Serves one connection until the machine is gone.
pub fn serve(listener: &UnixListener, disk: &Disk) -> io::Result<()> {
    let (mut socket, _) = listener.accept()?;
    if !handshake(&mut socket, disk.bytes())? {
        return Ok(());
    }
    let mut unread: Vec<u8> = Vec::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        let mut batch = Vec::new();
        while let Some(request) = take_request(&mut unread)? {
            batch.push(request);
        }
        // Stable: the others stay in their order.
        batch.sort_by_key(|request| request.kind != 3);
        for request in &batch {
            if !answer(&mut socket, disk, request)? {
                return Ok(());
            }
        }
        match socket.read(&mut piece)? {
            0 => return Ok(()),
            count => unread.extend_from_slice(&piece[..count]),
        }
    }
}

/// False: the client left.
fn handshake(socket: &mut UnixStream, disk_bytes: u64) -> io::Result<bool> {
    socket.write_all(b"NBDMAGICIHAVEOPT\x00\x03")?;
    let _client_flags: [u8; 4] = take(socket)?;
    loop {
        let magic: [u8; 8] = take(socket)?;
        if &magic != b"IHAVEOPT" {
            return Err(invalid("no option"));
        }
        let option = u32::from_be_bytes(take(socket)?);
        let length = u32::from_be_bytes(take(socket)?);
        if length > 65536 {
            return Err(invalid("a long option"));
        }
        socket.read_exact(&mut vec![0; length as usize])?;
        match option {
            OPTION_GO => {
                let mut export = vec![0, 0];
                export.extend(disk_bytes.to_be_bytes());
                export.extend((HAS_FLAGS | SEND_FLUSH | SEND_FUA).to_be_bytes());
                reply_to_option(socket, option, REPLY_INFO, &export)?;
                let mut sizes = vec![0, 3];
                for bytes in [512, BLOCK_BYTES as u32, LENGTH_MAX / 2] {
                    sizes.extend(bytes.to_be_bytes());
                }
                reply_to_option(socket, option, REPLY_INFO, &sizes)?;
                reply_to_option(socket, option, REPLY_ACK, &[])?;
                return Ok(true);
            }
            OPTION_ABORT => {
                reply_to_option(socket, option, REPLY_ACK, &[])?;
                return Ok(false);
            }
            _ => reply_to_option(socket, option, REPLY_UNSUPPORTED, &[])?,
        }
    }
}

fn reply_to_option(socket: &mut UnixStream, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
    let mut reply = 0x0003_e889_0455_65a9_u64.to_be_bytes().to_vec();
    reply.extend(option.to_be_bytes());
    reply.extend(kind.to_be_bytes());
    reply.extend((data.len() as u32).to_be_bytes());
    reply.extend(data);
    socket.write_all(&reply)
}

/// Takes a whole request off the front.
fn take_request(unread: &mut Vec<u8>) -> io::Result<Option<Request>> {
    if unread.len() < REQUEST_BYTES {
        return Ok(None);
    }
    let mut head = &unread[..REQUEST_BYTES];
    if u32::from_be_bytes(take(&mut head)?) != REQUEST_MAGIC {
        return Err(invalid("no request"));
    }
    let flags = u16::from_be_bytes(take(&mut head)?);
    let kind = u16::from_be_bytes(take(&mut head)?);
    let cookie = take(&mut head)?;
    let offset = u64::from_be_bytes(take(&mut head)?);
    let length = u32::from_be_bytes(take(&mut head)?);
    if length > LENGTH_MAX {
        return Err(invalid("a long request"));
    }
    let end = REQUEST_BYTES + if kind == 1 { length as usize } else { 0 };
    if unread.len() < end {
        return Ok(None);
    }
    let data = unread[REQUEST_BYTES..end].to_vec();
    unread.drain(..end);
    Ok(Some(Request { flags, kind, cookie, offset, length, data }))
}

/// False: the client left.
fn answer(socket: &mut UnixStream, disk: &Disk, request: &Request) -> io::Result<bool> {
    let end = request.offset.checked_add(request.length.into());
    let inside = end.is_some_and(|end| end <= disk.bytes());
    let (mut error, mut data) = (0_u32, Vec::new());
    match request.kind {
        0 | 1 if !inside => error = 22,
        0 => {
            data = vec![0; request.length as usize];
            disk.read(request.offset, &mut data);
        }
        1 => disk.write(request.offset, &request.data, request.flags & 1 != 0),
        2 => return Ok(false),
        3 => disk.flush(),
        _ => error = 22,
    }
    let mut reply = REPLY_MAGIC.to_be_bytes().to_vec();
    reply.extend(error.to_be_bytes());
    reply.extend(request.cookie);
    reply.extend(data);
    socket.write_all(&reply)?;
    Ok(true)
}

fn take<const N: usize>(from: &mut impl io::Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the NBD client sent {what}"))
}
