//! Staff of a Ghost at a browser.

use std::fs;

use serde_json::{Value, json};

use super::{At, Curled, Operator};

/// A member of staff at a browser, coming in through one data center's edge.
pub(crate) struct Staff<'a> {
    operator: &'a Operator,
    authority: String,
    at: At,
    jar: String,
}

impl<'a> Staff<'a> {
    pub(crate) fn log_in(operator: &'a Operator, authority: &str, at: impl Into<At>) -> Self {
        let at = at.into();
        let site = authority.split('.').next().unwrap();
        let credentials = operator.json(&["site", "credentials", site]);
        let jar = operator.home().join(format!("jar-{}", at.0)).display().to_string();
        let staff = Self { operator, authority: authority.to_owned(), at, jar };
        let body = json!({ "username": credentials["email"], "password": credentials["password"] });
        staff.call("POST", "/ghost/api/admin/session/", Some(&body)).is(201);
        staff
    }

    /// The same, still logged in, through another edge.
    pub(crate) fn through(&self, at: impl Into<At>) -> Self {
        Self { operator: self.operator, authority: self.authority.clone(), at: at.into(), jar: self.jar.clone() }
    }

    pub(crate) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Curled {
        let origin = format!("Origin: https://{}", self.authority);
        let mut more = vec!["--cookie", &self.jar, "--cookie-jar", &self.jar, "--request", method, "--header", &origin];
        let text = body.map(Value::to_string);
        if let Some(text) = &text {
            more.extend(["--header", "Content-Type: application/json", "--data-raw", text]);
        }
        self.operator.curl(&self.authority, self.at, path, &more)
    }

    pub(crate) fn publish(&self, title: &str, slug: &str, html: &str) -> Value {
        let body = json!({ "posts": [{ "title": title, "slug": slug, "html": html, "status": "published" }] });
        self.call("POST", "/ghost/api/admin/posts/?source=html", Some(&body)).is(201).json()["posts"][0].clone()
    }

    pub(crate) fn edit(&self, post: &Value, change: Value) -> Value {
        let id = post["id"].as_str().unwrap();
        let mut change = change;
        change["updated_at"] = post["updated_at"].clone();
        self.call("PUT", &format!("/ghost/api/admin/posts/{id}/?source=html"), Some(&json!({ "posts": [change] })))
            .ok()
            .json()["posts"][0]
            .clone()
    }

    pub(crate) fn upload(&self, name: &str, bytes: &[u8]) -> String {
        let file = self.operator.home().join(name);
        fs::write(&file, bytes).unwrap();
        let file = format!("file=@{};type=image/png", file.display());
        let answer = self.send_form("/ghost/api/admin/images/upload/", &[&file, "purpose=image"]).is(201);
        answer.json()["images"][0]["url"].as_str().unwrap().to_owned()
    }

    /// Sends a form with files in it.
    pub(crate) fn send_form(&self, path: &str, fields: &[&str]) -> Curled {
        let origin = format!("Origin: https://{}", self.authority);
        let mut more = vec!["--cookie", &self.jar, "--header", &origin];
        fields.iter().for_each(|field| more.extend(["--form", field]));
        self.operator.curl(&self.authority, self.at, path, &more)
    }
}
