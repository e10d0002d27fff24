// Keeps a page live: one stream says that something has changed, and the page is fetched again and put into place, node by node, so
// that focus, scroll position, open groups and selections stay. Without this script the page is the same, and is reloaded by hand.
"use strict";
(() => {
  const main = document.getElementById("main");
  const cut = document.getElementById("cut");
  const said = document.getElementById("said");
  const pause = document.getElementById("pause");
  const slowest = 15000; // ms that an answer may take, and between attempts where there is no stream
  let paused = false, fetching = false, again = false, source = null, since = null, timer = 0;

  const clock = () => new Date().toISOString().slice(11, 19) + "Z";

  function doubt(why) {
    since ??= clock();
    cut.textContent = `${why} since ${since} by this machine’s clock: what is shown is as of ${main.querySelector(".asof time")?.textContent ?? "then"}, and may be old.`;
    cut.hidden = false;
  }
  function trust() {
    since = null;
    cut.hidden = true;
  }

  // morph makes an element what another one is, and keeps every node that may stay. Children are the same by id, or by place and name.
  function morph(old, now) {
    for (const { name } of [...old.attributes]) if (!now.hasAttribute(name) && !(name === "open" && old.localName === "details")) old.removeAttribute(name);
    for (const { name, value } of now.attributes) {
      if (old.getAttribute(name) !== value && !(name === "open" && old.localName === "details")) old.setAttribute(name, value);
    }
    const known = new Map([...old.children].filter((c) => c.id).map((c) => [c.id, c]));
    let at = old.firstChild;
    for (const wanted of [...now.childNodes]) {
      let same = wanted.id ? known.get(wanted.id) : at && !at.id && at.nodeName === wanted.nodeName ? at : null;
      if (!same) {
        old.insertBefore(wanted, at);
        continue;
      }
      if (same === at) at = at.nextSibling;
      else if (old.moveBefore) old.moveBefore(same, at);
      else old.insertBefore(same, at);
      if (same.nodeType === Node.TEXT_NODE) {
        if (same.data !== wanted.data) same.data = wanted.data;
      } else if (same.nodeType === Node.ELEMENT_NODE && !same.isEqualNode(wanted) && same.localName !== "input") morph(same, wanted);
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
  }

  async function renew() {
    if (paused || document.hidden) {
      again = true;
      return;
    }
    if (fetching) {
      again = true;
      return;
    }
    fetching = true;
    again = false;
    try {
      const answer = await fetch(location.href, { signal: AbortSignal.timeout(slowest), cache: "no-store" });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const now = page.getElementById("main");
      if (!now) throw new Error("no page");
      const heading = main.querySelector("h1")?.textContent;
      const focused = document.activeElement?.id;
      morph(main, now);
      document.title = page.title;
      if (focused && document.activeElement?.id !== focused) document.getElementById(focused)?.focus({ preventScroll: true });
      const old = main.querySelector(".old");
      old?.replaceWith(old.cloneNode(true)); // its time begins anew
      const after = main.querySelector("h1")?.textContent;
      if (after && after !== heading) said.textContent = after;
      if (source?.readyState === EventSource.OPEN) trust();
    } catch {
      doubt("The publisher has not answered");
    } finally {
      fetching = false;
    }
    if (again) setTimeout(renew, 500);
  }

  function watch() {
    source?.close();
    source = new EventSource(`/live?of=${encodeURIComponent(main.dataset.of)}&since=${encodeURIComponent(main.dataset.mark)}`);
    source.addEventListener("changed", renew);
    source.addEventListener("unchanged", renew);
    source.addEventListener("open", () => {
      clearTimeout(timer);
      if (since) renew();
    });
    source.addEventListener("error", () => {
      if (paused) return;
      doubt("The live connection is cut");
      if (source.readyState === EventSource.CLOSED) {
        clearTimeout(timer);
        timer = setTimeout(() => { watch(); renew(); }, slowest);
      }
    });
  }

  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    if (paused) {
      source?.close();
      doubt("Updates are paused");
    } else {
      since = null;
      watch();
      renew();
    }
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden && again) renew(); });
  addEventListener("pagehide", () => source?.close());
  addEventListener("pageshow", (e) => { if (e.persisted && !paused) { watch(); renew(); } });
  document.getElementById("live").hidden = false;
  watch();
})();
