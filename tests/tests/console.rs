//! The console through the real server: what a real browser shows of it, and who gets in.
//!
//! The browser is Debian's Chromium. Where there is none its test says so and is not run, unless
//! `WHYRANK_BROWSER=required`. With `WHYRANK_SCREENSHOTS=FOLDER` it leaves pictures of every page.

mod browser;

use anyhow::{Context, Result, ensure};
use browser::Browser;
use reqwest::{Client, Response, StatusCode, redirect::Policy};
use serde_json::{Value, json};
use whyrank_tests::{Installation, RealQdrant, Server, until};

/// A title that would run if it were not escaped.
const HOSTILE_TITLE: &str =
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">";

/// The pages with an answer on each, for the item that the test renames.
fn pages(item: &str) -> [(&'static str, String); 6] {
    [
        ("search", "/console/search?user=1&limit=5".to_owned()),
        ("search-empty", "/console/search".to_owned()),
        ("audience", format!("/console/audience?items={item}&known=yes&limit=40")),
        ("seller", format!("/console/seller?item={item}")),
        ("system", "/console/system".to_owned()),
        ("error", "/console/search?user=nobody".to_owned()),
    ]
}

/// Gives the first item of consumer 1's results the hostile title, as a client of Qdrant would.
async fn plant(server: &Server, items: &str) -> Result<String> {
    let recommend = format!("{}/v1/recommend", server.url);
    let request = Client::new().post(recommend).json(&json!({ "user": "1", "limit": 1 }));
    let answer: Value = request.send().await?.json().await?;
    let item = answer["results"][0]["item"].as_str().context("a result")?.to_owned();
    let gateway = server.gateway.as_ref().context("a gateway")?;
    let url = format!("{}/collections/{items}/points/payload?wait=true", gateway.rest);
    let filter = json!({ "must": [{ "key": "external_id", "match": { "value": item } }] });
    let body = json!({ "payload": { "title": HOSTILE_TITLE }, "filter": filter });
    let response = Client::new().post(url).json(&body).send().await?;
    let status = response.status();
    ensure!(status.is_success(), "{status}: {}", response.text().await?);
    Ok(item)
}

#[tokio::test]
async fn the_pages_hold_in_a_real_browser() -> Result<()> {
    let Some(browser) = Browser::start().await? else { return Ok(()) };
    pages_hold(browser, &Installation::trained()?, "items").await
}

#[tokio::test]
async fn the_pages_hold_over_a_real_server() -> Result<()> {
    let Some(real) = RealQdrant::named() else { return Ok(()) };
    let Some(browser) = Browser::start().await? else { return Ok(()) };
    let (installation, prefix) = Installation::in_server(&real.grpc, &real.rest)?;
    pages_hold(browser, &installation, &format!("{prefix}items")).await
}

async fn pages_hold(mut browser: Browser, installation: &Installation, items: &str) -> Result<()> {
    let server = installation.serve(&["--role", "api", "--role", "gateway"])?;
    let item = plant(&server, items).await?;
    titles_stay_text(&mut browser, &server, &item).await?;
    forms_work_by_keyboard(&mut browser, &server).await?;
    for (name, path) in pages(&item) {
        for scheme in ["light", "dark"] {
            for (screen, width, height) in [("desktop", 1280, 900), ("phone", 360, 740)] {
                browser.screen(width, height).await?;
                browser.scheme(scheme).await?;
                browser.open(&format!("{}{path}", server.url)).await?;
                fits(&mut browser, &path, width).await?;
                readable(&mut browser, &path, scheme).await?;
                browser.picture(&format!("{name}-{screen}-{scheme}")).await?;
            }
        }
    }
    Ok(())
}

/// The hostile title is shown as it is written, and nothing of it ran.
async fn titles_stay_text(browser: &mut Browser, server: &Server, item: &str) -> Result<()> {
    for (path, heading) in [
        (format!("{}/console/search?user=1", server.url), "h3"),
        (format!("{}/console/audience?items={item}", server.url), ".tile li"),
        (format!("{}/console/seller?item={item}", server.url), ".subject"),
    ] {
        browser.open(&path).await?;
        let shown = format!("document.querySelector('{heading}').textContent");
        let shown = browser.text(&shown).await?;
        ensure!(shown.contains(HOSTILE_TITLE), "{path} shows {shown:?}");
        let title = browser.text("document.title").await?;
        ensure!(title != "owned" && title.ends_with("Whyrank"), "{path}: the title is {title:?}");
        let made =
            browser.value("document.querySelectorAll('script, img[onerror]').length").await?;
        ensure!(made == 0, "{path}: {made} elements came out of a title");
    }
    // Were a script in a page, the policy would keep it from running. The test adds one to see.
    let added = "(() => { const s = document.createElement('script'); s.textContent = \
                 \"document.title = 'owned'\"; document.body.append(s); return document.title; })()";
    let title = browser.text(added).await?;
    ensure!(title != "owned", "the policy let a script run");
    Ok(())
}

/// Who has no mouse gets through the forms, and sees where the focus is.
async fn forms_work_by_keyboard(browser: &mut Browser, server: &Server) -> Result<()> {
    browser.screen(1280, 900).await?;
    browser.open(&format!("{}/console/search", server.url)).await?;
    let focus = "(e => e.name || e.textContent.trim())(document.activeElement)";
    let mut reached = Vec::new();
    for _ in 0..11 {
        browser.press("Tab").await?;
        reached.push(browser.text(focus).await?);
        let outline = "getComputedStyle(document.activeElement).outlineStyle";
        let outline = browser.text(outline).await?;
        ensure!(outline != "none", "the focus on {:?} is not seen", reached.last());
    }
    let expected = [
        "Skip to the content",
        "Whyrank",
        "Search",
        "Audience",
        "Item",
        "System",
        "user",
        "limit",
        "candidates",
        "known",
        "Search",
    ];
    ensure!(reached == expected, "{reached:?}");

    browser.open(&format!("{}/console/search", server.url)).await?;
    browser.tab_to("e.name === 'user'").await?;
    browser.type_text("1").await?;
    browser.press_and_load("Enter").await?;
    let results = browser.value("document.querySelectorAll('.result').length").await?;
    ensure!(results == 10, "{results} results");
    // Two items are marked and compared.
    for place in 0..2 {
        browser.tab_to(&format!("e === document.querySelectorAll('[name=item]')[{place}]")).await?;
        browser.press("Space").await?;
    }
    browser.tab_to("e.textContent === 'Compare two marked items'").await?;
    browser.press_and_load("Enter").await?;
    let summary = browser.text("document.querySelector('.big').textContent").await?;
    ensure!(summary.contains(" above "), "{summary}");
    fits(browser, "/console/compare", 1280).await?;
    browser.picture("compare-desktop-light").await?;
    // What is folded away is reached and opened as well.
    browser.open(&format!("{}/console/search?user=1", server.url)).await?;
    browser.tab_to("e.tagName === 'SUMMARY' && !e.parentElement.open").await?;
    browser.press("Enter").await?;
    let open = browser.value("document.activeElement.parentElement.open").await?;
    ensure!(open == true, "a folded part does not open by keyboard");
    Ok(())
}

/// Nothing is wider than the screen.
async fn fits(browser: &mut Browser, path: &str, width: u32) -> Result<()> {
    let wide = browser.value("document.documentElement.scrollWidth").await?;
    if wide.as_u64().is_none_or(|wide| wide > u64::from(width)) {
        let who = "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect()\
                   .right > innerWidth).map(e => e.outerHTML.slice(0, 120)).slice(0, 5).join('\\n')";
        anyhow::bail!(
            "{path} is {wide} wide on a screen of {width}:\n{}",
            browser.text(who).await?
        );
    }
    Ok(())
}

/// The page follows the colour scheme, and every text stands out from what is behind it (WCAG AA).
async fn readable(browser: &mut Browser, path: &str, scheme: &str) -> Result<()> {
    let measure = r#"(() => {
        const numbers = c => c.match(/[\d.]+/g).map(Number);
        const light = ([r, g, b]) => { const f = v => (v /= 255) <= .03928 ? v / 12.92
            : ((v + .055) / 1.055) ** 2.4; return .2126 * f(r) + .7152 * f(g) + .0722 * f(b); };
        const behind = e => { for (; e; e = e.parentElement) { const c =
            numbers(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; }
            return [255, 255, 255]; };
        const contrast = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
            return (x + .05) / (y + .05); };
        const texts = [...document.querySelectorAll('main *, header *')].filter(e =>
            [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && e.checkVisibility());
        const faint = texts.map(e => { const s = getComputedStyle(e); const c = e.closest('svg') ?
            s.fill : s.color; return [contrast(numbers(c), behind(e.closest('svg')?.parentElement || e)),
            e.outerHTML.slice(0, 100)]; }).filter(([c]) => c < 4.5);
        return { ground: light(numbers(getComputedStyle(document.body).backgroundColor)),
            texts: texts.length, faint }; })()"#;
    let found = browser.value(measure).await?;
    let ground = found["ground"].as_f64().context("ground")?;
    ensure!(
        if scheme == "dark" { ground < 0.1 } else { ground > 0.8 },
        "{path} {scheme}: {ground}"
    );
    ensure!(found["texts"].as_u64().is_some_and(|texts| texts > 5), "{path}: {found}");
    ensure!(found["faint"] == json!([]), "{path} in {scheme}: {}", found["faint"]);
    Ok(())
}

/// A role's key as `whyrank key` makes it; its entry is added to the configuration.
fn key(installation: &Installation, role: &str, items: Option<&Value>) -> Result<String> {
    let items = items.map(Value::to_string);
    let mut arguments = vec!["key", "--name", role, "--role", role];
    if let Some(items) = &items {
        arguments.extend(["--items", items]);
    }
    let printed = installation.succeed(&arguments)?;
    let (said, entry) = printed.split_once("[[server.keys]]").context("an entry")?;
    installation.configure(&format!("[[server.keys]]{entry}"))?;
    Ok(said.lines().find(|line| line.len() == 64).context("a key")?.to_owned())
}

/// A browser of one visitor, as far as cookies go.
struct Visitor<'a> {
    server: &'a Server,
    client: Client,
    cookie: String,
}

impl<'a> Visitor<'a> {
    fn new(server: &'a Server) -> Result<Self> {
        let client = Client::builder().redirect(Policy::none()).build()?;
        Ok(Self { server, client, cookie: String::new() })
    }

    async fn get(&self, path: &str) -> Result<(StatusCode, String)> {
        let request = self.client.get(format!("{}{path}", self.server.url));
        let response = request.header("cookie", &self.cookie).send().await?;
        Ok((response.status(), response.text().await?))
    }

    /// Sends a form as a page of this origin would.
    async fn post(&self, path: &str, form: &str, origin: Option<&str>) -> Result<Response> {
        let request = self.client.post(format!("{}{path}", self.server.url));
        let request = request
            .header("content-type", "application/x-www-form-urlencoded")
            .header("cookie", &self.cookie)
            .body(form.to_owned());
        let request = match origin {
            Some(origin) => request.header("origin", origin),
            None => request,
        };
        Ok(request.send().await?)
    }

    async fn sign_in(&mut self, key: &str, next: &str) -> Result<String> {
        let form = format!("key={key}&next={next}");
        let response = self.post("/console/login", &form, Some(&self.server.url)).await?;
        ensure!(response.status() == StatusCode::SEE_OTHER, "{}", response.status());
        let header = |name: &str| -> Result<String> {
            Ok(response.headers().get(name).context("a header")?.to_str()?.to_owned())
        };
        let (cookie, to) = (header("set-cookie")?, header("location")?);
        for part in ["HttpOnly", "SameSite=Strict", "Path=/console", "Max-Age="] {
            ensure!(cookie.contains(part), "{cookie}");
        }
        ensure!(!cookie.contains(key), "the key is in the cookie");
        self.cookie = cookie.split(';').next().unwrap_or_default().to_owned();
        Ok(to)
    }
}

#[tokio::test]
async fn a_key_opens_the_pages_of_its_role_and_no_others() -> Result<()> {
    let installation = Installation::trained()?;
    installation.configure("[insights]\nnoise_secret = \"of the test\"")?;
    let own = json!({ "must": [{ "key": "external_id", "match": { "any": ["1", "50"] } }] });
    let mut keys = Vec::new();
    for role in ["admin", "search", "campaign", "seller"] {
        keys.push((role, key(&installation, role, (role == "seller").then_some(&own))?));
    }
    let server = installation.serve(&["--role", "api"])?;
    let pages = [
        ("/console/search?user=1", ["admin", "search"].as_slice()),
        ("/console/compare?user=1&item=1&item=50", ["admin", "search"].as_slice()),
        ("/console/audience?items=1", ["admin", "campaign"].as_slice()),
        ("/console/audience/export?items=1&format=csv", ["admin", "campaign"].as_slice()),
        ("/console/seller?item=1", ["admin", "seller"].as_slice()),
        ("/console/system", ["admin"].as_slice()),
    ];
    let stranger = Visitor::new(&server)?;
    for (path, _) in pages {
        let (status, html) = stranger.get(path).await?;
        ensure!(status == StatusCode::UNAUTHORIZED, "{path}: {status}");
        ensure!(html.contains("name=\"key\"") && !html.contains("Toy Story"), "{path}: {html}");
    }
    for (role, key) in &keys {
        let mut visitor = Visitor::new(&server)?;
        let to = visitor.sign_in(key, "/console").await?;
        ensure!(to == "/console", "{to}");
        for (path, roles) in pages {
            let (status, html) = visitor.get(path).await?;
            let expected =
                if roles.contains(role) { StatusCode::OK } else { StatusCode::FORBIDDEN };
            ensure!(status == expected, "{path} as {role}: {status}\n{html}");
            ensure!(!html.contains(key.as_str()), "{path}: the key is in the page");
            let named = format!("role `{role}`");
            ensure!(
                expected == StatusCode::OK || html.contains(&named),
                "{path} as {role}: {html}"
            );
        }
        // A session is for looking at pages; the API asks for the key itself.
        let (status, _) = visitor.get("/v1/queue").await?;
        ensure!(status == StatusCode::UNAUTHORIZED, "a cookie opened the API: {status}");
    }

    // What a campaign key does not see, and an administrator does.
    let audience = "campaign=loud+battles+in+space&limit=120";
    let mut told = Vec::new();
    for role in ["admin", "campaign"] {
        let mut visitor = Visitor::new(&server)?;
        let key = keys.iter().find(|(name, _)| *name == role).context("a key")?;
        visitor.sign_in(&key.1, "/console/audience").await?;
        let (_, html) = visitor.get(&format!("/console/audience?{audience}")).await?;
        let path = format!("/console/audience/export?{audience}&format=csv");
        let (_, file) = visitor.get(&path).await?;
        let texts = file.lines().skip(1).filter(|line| line.contains(",template,"));
        told.push((
            html.matches("<summary>Reasons</summary>").count(),
            texts.count(),
            file.lines().count(),
        ));
    }
    ensure!(told[0].0 > 0 && told[0].1 > 0, "nothing is written: {told:?}");
    ensure!(told[1].0 == 0 && told[1].1 == 0 && told[1].2 == told[0].2, "{told:?}");

    // A seller asks about its own items alone.
    let mut seller = Visitor::new(&server)?;
    seller.sign_in(&keys[3].1, "/console/seller").await?;
    let (status, html) = seller.get("/console/seller?item=100").await?;
    ensure!(status == StatusCode::FORBIDDEN && html.contains("is not among the items"), "{html}");
    let (_, html) = seller.get("/console/seller").await?;
    let offered = html.matches("/console/seller?item=").count();
    ensure!(offered == 2, "{offered} items are offered to a seller of two: {html}");
    Ok(())
}

#[tokio::test]
async fn signing_in_is_safe_against_other_sites() -> Result<()> {
    let installation = Installation::trained()?;
    let key = key(&installation, "search", None)?;
    let server = installation.serve(&["--role", "api"])?;
    let mut visitor = Visitor::new(&server)?;
    let form = format!("key={key}");
    for origin in [None, Some("null"), Some("http://evil.example")] {
        let response = visitor.post("/console/login", &form, origin).await?;
        ensure!(response.status() == StatusCode::FORBIDDEN, "{origin:?}: {}", response.status());
        ensure!(response.headers().get("set-cookie").is_none(), "{origin:?} got a session");
    }
    let wrong = visitor.post("/console/login", "key=wrong", Some(&server.url)).await?;
    ensure!(wrong.status() == StatusCode::UNAUTHORIZED, "{}", wrong.status());
    let large = format!("key={}", "x".repeat(100_000));
    let large = visitor.post("/console/login", &large, Some(&server.url)).await?;
    ensure!(large.status() == StatusCode::PAYLOAD_TOO_LARGE, "{}", large.status());
    // The rest of the form is still on its way: without this the next request could be lost behind it.
    ensure!(large.headers().get("connection").is_some_and(|value| value == "close"), "{large:?}");
    let to = visitor.sign_in(&key, "https://evil.example/").await?;
    ensure!(to == "/console", "sent to {to}");
    let to = visitor.sign_in(&key, "/console/search%3Fuser%3D1").await?;
    ensure!(to == "/console/search?user=1", "sent to {to}");

    let page = visitor.client.get(format!("{}/console/search", server.url)).send().await?;
    let policy = page.headers().get("content-security-policy").context("a policy")?.to_str()?;
    ensure!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    ensure!(page.headers()["cache-control"] == "no-store");

    let out = visitor.post("/console/logout", "", Some("http://evil.example")).await?;
    ensure!(out.status() == StatusCode::FORBIDDEN, "{}", out.status());
    let (status, _) = visitor.get("/console/search").await?;
    ensure!(status == StatusCode::OK, "another site ended the session");
    let out = visitor.post("/console/logout", "", Some(&server.url)).await?;
    ensure!(out.status() == StatusCode::SEE_OTHER, "{}", out.status());
    let (status, _) = visitor.get("/console/search").await?;
    ensure!(status == StatusCode::UNAUTHORIZED, "a session goes on after its end: {status}");

    // The same in a browser: the form works without a script, and no script can read the cookie.
    let Some(mut browser) = Browser::start().await? else { return Ok(()) };
    browser.screen(360, 740).await?;
    browser.open(&format!("{}/console/search?user=1", server.url)).await?;
    fits(&mut browser, "/console/login", 360).await?;
    browser.picture("login-phone-light").await?;
    browser.tab_to("e.name === 'key'").await?;
    browser.type_text(&key).await?;
    browser.press_and_load("Enter").await?;
    let results = browser.value("document.querySelectorAll('.result').length").await?;
    ensure!(results == 10, "signing in led to {}", browser.text("document.body.innerText").await?);
    ensure!(browser.text("document.cookie").await?.is_empty(), "a script can read the cookie");
    browser.picture("signed-in-phone-light").await?;
    Ok(())
}

/// Regression: a session kept the role that its key had when it began.
#[tokio::test]
async fn a_session_may_do_what_its_key_may_do_now() -> Result<()> {
    let installation = Installation::trained()?;
    let admin = key(&installation, "admin", None)?;
    let path = installation.path().join("whyrank.toml");
    let text = std::fs::read_to_string(&path)?;
    let text = text.replace("[server]", "[server]\nreload_seconds = 1");
    std::fs::write(&path, &text)?;
    let server = installation.serve(&["--role", "api"])?;
    let mut visitor = Visitor::new(&server)?;
    visitor.sign_in(&admin, "/console").await?;
    ensure!(visitor.get("/console/system").await?.0 == StatusCode::OK);
    std::fs::write(&path, text.replace("role = \"admin\"", "role = \"search\""))?;
    until("the session has the role that its key has now", async || {
        Ok(visitor.get("/console/system").await?.0 == StatusCode::FORBIDDEN)
    })
    .await?;
    ensure!(visitor.get("/console/search").await?.0 == StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn a_console_that_is_turned_off_is_not_there() -> Result<()> {
    let installation = Installation::trained()?;
    installation.configure("[server.console]\nenabled = false")?;
    let server = installation.serve(&["--role", "api"])?;
    for path in ["/console", "/console/search", "/console/style.css"] {
        let status = Client::new().get(format!("{}{path}", server.url)).send().await?.status();
        ensure!(status == StatusCode::NOT_FOUND, "{path}: {status}");
    }
    Ok(())
}
