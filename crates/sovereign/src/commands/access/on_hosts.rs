//! The access logs of edges on hosts. All hosts are asked at once: one that does not answer delays no other.

use std::io;
use std::ops::ControlFlow;

use futures_util::future::{join_all, pending, select_all};
use sovereign_engine::incus::access::AccessReader;
use sovereign_engine::incus::{IncusEngineError, Link, Reach};
use sovereign_model::{EdgeName, SiteName, Stack};

use super::super::away::{self, Silent};
use super::Request;
use crate::context::Context;
use crate::declared::Declared;

/// What is in every line of a site's requests, as an edge writes them: the host looks for it.
fn of_site(site: Option<&SiteName>) -> String {
    site.map(|site| format!("\"site\":\"{site}\"")).unwrap_or_default()
}

/// The last requests at each of them, or that they cannot be read there.
pub(super) async fn read(
    edges: &[EdgeName],
    reach: &Reach,
    stack: &Stack,
    lines: usize,
    site: Option<&SiteName>,
) -> Vec<Result<Vec<Request>, Silent>> {
    let read = edges.iter().map(async |edge| {
        let read = async {
            let link = reach.link(edge).await?;
            read_new(&mut AccessReader::new(link, &stack.name), link, edge, lines, site).await
        };
        read.await.map_err(|error| Silent::new(edge, None, error))
    });
    join_all(read).await
}

async fn read_new(
    reader: &mut AccessReader,
    link: &Link,
    edge: &EdgeName,
    lines: usize,
    site: Option<&SiteName>,
) -> Result<Vec<Request>, IncusEngineError> {
    let text = reader.read_new(link, lines, &of_site(site)).await?;
    Ok(Request::all(edge, &text, site))
}

/// Follows all of them until nobody reads any longer; for ever when there are none.
pub(super) async fn follow(
    edges: &[EdgeName],
    declared: &Declared,
    lines: usize,
    site: Option<&SiteName>,
    context: &Context,
    show: &impl Fn(&[Request]) -> io::Result<()>,
) {
    if edges.is_empty() {
        return pending().await;
    }
    let follow = edges.iter().map(|edge| {
        let mut reader = None;
        Box::pin(away::follow(context, declared, edge, async move |link| {
            let reader = reader.get_or_insert_with(|| AccessReader::new(link, &declared.stack.name));
            let requests = read_new(reader, link, edge, lines, site).await?;
            Ok(if show(&requests).is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        }))
    });
    select_all(follow).await;
}

#[cfg(test)]
mod tests {
    use sovereign_model::access_entry::AccessEntry;

    use super::*;

    /// What the host looks for is what an edge writes.
    #[test]
    fn a_line_of_a_site_is_found() {
        let site: SiteName = "blog".parse().unwrap();
        let text = r#"{"time":"","site":"blog","host":"","method":"","target":"","version":"","status":200,"bytes":0,
            "duration-ms":0.25,"from":"hit","reader":""}"#;
        let entry: AccessEntry = serde_json::from_str(text).unwrap();
        assert!(serde_json::to_string(&entry).unwrap().contains(&of_site(Some(&site))));
        assert_eq!(of_site(None), "");
    }
}
