//! HTTP servers on loopback for tests: good ones, and the ways in which one can fail.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use axum::Router;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::http_client::HttpClient;
use crate::setting::Endpoints;

/// A server that ends when dropped.
#[derive(Debug)]
pub struct LoopbackServer {
    url: String,
    task: JoinHandle<()>,
}

impl LoopbackServer {
    /// Serves routes.
    pub async fn serving(routes: Router) -> Self {
        let (listener, url) = bound().await;
        let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { url, task }
    }

    /// Takes connections and never answers.
    pub async fn hanging() -> Self {
        Self::each(async |mut connection| {
            let mut asked = Vec::new();
            connection.read_to_end(&mut asked).await.ok();
        })
        .await
    }

    /// Answers everything with these bytes, which should begin with a status line, and closes the connection.
    pub async fn saying(said: impl Into<Bytes>) -> Self {
        let said = said.into();
        Self::each(move |mut connection| {
            let said = said.clone();
            async move {
                let mut asked = [0; 4096];
                while connection.read(&mut asked).await.is_ok_and(|length| length == asked.len()) {}
                connection.write_all(&said).await.ok();
                connection.shutdown().await.ok();
            }
        })
        .await
    }

    /// Answers everything with status 200 and this body.
    pub async fn answering(body: &[u8]) -> Self {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        Self::saying([head.as_bytes(), body].concat()).await
    }

    /// Announces more bytes than it sends.
    pub async fn breaking_off(body: &[u8]) -> Self {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len() + 1);
        Self::saying([head.as_bytes(), body].concat()).await
    }

    /// The address of a port on which no server listens.
    pub async fn dead() -> Self {
        let (listener, url) = bound().await;
        drop(listener);
        Self { url, task: tokio::spawn(async {}) }
    }

    async fn each<F>(answer: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (listener, url) = bound().await;
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                connections.spawn(answer(connection));
            }
        });
        Self { url, task }
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for LoopbackServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The endpoints of servers, in their order.
pub fn endpoints<'a>(servers: impl IntoIterator<Item = &'a LoopbackServer>) -> Endpoints {
    let urls: Vec<&str> = servers.into_iter().map(LoopbackServer::url).collect();
    urls.join(",").parse().unwrap()
}

/// A client without a token.
pub fn client() -> HttpClient {
    HttpClient::new(None).unwrap()
}

async fn bound() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}
