//! Where a proxy listens; Unix sockets, which must leave nothing behind.

use alvys_auth_proxy::Listen;

#[test]
fn places_are_written_as_people_write_them() {
    for text in ["127.0.0.1:8350", "[::1]:80", "unix:/run/alvys.sock"] {
        let place: Listen = text.parse().unwrap();
        assert!(place.to_string().ends_with(text), "{place}");
    }
    for text in ["", "8350", "localhost:8350", "unix:", "/run/alvys.sock", "127.0.0.1"] {
        assert!(text.parse::<Listen>().unwrap_err().to_string().contains("such as 127.0.0.1:8350"), "{text}");
    }
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::PathBuf;

    use alvys_auth_proxy::{Account, Api, Listen, Proxy, Server, Settings};
    use alvys_auth_sandbox::Sandbox;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use crate::stage::{Running, tokens};

    struct Place {
        directory: PathBuf,
    }

    impl Place {
        fn new(name: &str) -> Self {
            let directory = std::env::temp_dir().join(format!("alvys-proxy-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&directory).unwrap();
            Self { directory }
        }

        fn socket(&self) -> PathBuf {
            self.directory.join("proxy.sock")
        }

        fn files(&self) -> usize {
            std::fs::read_dir(&self.directory).unwrap().count()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }

    fn server(sandbox: &Sandbox) -> Server {
        let account = Account::new(tokens(sandbox, &sandbox.application())).unpaced();
        Server::new(Proxy::new(account, Api::at(&sandbox.api_url()).unwrap(), Settings::new()).unwrap())
    }

    #[tokio::test]
    async fn a_unix_socket_is_for_this_user_alone_and_goes_with_the_proxy() {
        let (sandbox, place) = (Sandbox::start().unwrap(), Place::new("own"));
        let listen = Listen::Unix(place.socket());
        let running = Running::serve(server(&sandbox).listen(&listen).await.unwrap());
        assert_eq!(running.places, [listen]);
        assert_eq!(std::fs::metadata(place.socket()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(place.files(), 1);

        let mut stream = UnixStream::connect(place.socket()).await.unwrap();
        let request = "GET /api/p/v1/loads HTTP/1.1\r\nHost: alvys\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "any name will do: {answer}");

        assert_eq!(running.stop().await, 0);
        assert_eq!(place.files(), 0);
    }

    #[tokio::test]
    async fn a_path_may_be_as_long_as_the_system_takes() {
        let (sandbox, place) = (Sandbox::start().unwrap(), Place::new("long"));
        let longest = if cfg!(target_os = "linux") { 107 } else { 103 };
        let directory = place.directory.join("d".repeat(longest - 11 - place.directory.as_os_str().len() - 1));
        std::fs::create_dir(&directory).unwrap();
        let path = directory.join("proxy.sock");
        assert_eq!(path.as_os_str().len(), longest);
        let running = Running::serve(server(&sandbox).listen(&Listen::Unix(path.clone())).await.unwrap());
        UnixStream::connect(&path).await.unwrap();
        running.stop().await;
        assert_eq!(std::fs::read_dir(directory).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_a_dead_proxy_left_is_replaced_and_a_live_one_stays() {
        let (sandbox, place) = (Sandbox::start().unwrap(), Place::new("stale"));
        drop(std::os::unix::net::UnixListener::bind(place.socket()).unwrap());
        let listen = Listen::Unix(place.socket());
        let running = Running::serve(server(&sandbox).listen(&listen).await.unwrap());
        let inode = std::fs::metadata(place.socket()).unwrap().ino();
        let error = server(&sandbox).listen(&listen).await.unwrap_err();
        assert!(error.to_string().contains("cannot listen at unix:"), "{error}");
        assert_eq!(std::fs::metadata(place.socket()).unwrap().ino(), inode);

        // Whoever takes the place over keeps it.
        std::fs::remove_file(place.socket()).unwrap();
        let other = std::os::unix::net::UnixListener::bind(place.socket()).unwrap();
        running.stop().await;
        assert_eq!(place.files(), 1);
        drop(other);
    }

    #[tokio::test]
    async fn a_file_in_the_place_of_a_socket_stays() {
        let (sandbox, place) = (Sandbox::start().unwrap(), Place::new("file"));
        std::fs::write(place.socket(), "precious").unwrap();
        let error = server(&sandbox).listen(&Listen::Unix(place.socket())).await.unwrap_err();
        assert!(error.to_string().contains("not a socket"), "{error}");
        assert_eq!(std::fs::read_to_string(place.socket()).unwrap(), "precious");
        let nowhere = Listen::Unix(place.directory.join("none/proxy.sock"));
        assert!(server(&sandbox).listen(&nowhere).await.is_err());
    }
}
