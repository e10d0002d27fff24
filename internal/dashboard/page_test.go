//go:build browser

package dashboard_test

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/animation"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// until waits for a page to say yes.
func (p *tab) until(what, script string) {
	p.t.Helper()
	for deadline := time.Now().Add(limit); !tell[bool](p, script); {
		if time.Now().After(deadline) {
			p.t.Fatalf("it never came to be that %s; the page says: %s", what, tell[string](p, `document.body.innerText`))
		}
	}
}

// TestBrowserObeysNothingHostile: every page with something hostile in every field is opened. No script but the page's own runs, the page
// breaks no policy of its own and has nothing to complain about, and it leads nowhere else.
func TestBrowserObeysNothingHostile(t *testing.T) {
	p := open(t, hostileWorld(t))
	for _, page := range hostilePages {
		p.visit(page)
		if tell[bool](p, `"obeyed" in window`) {
			t.Errorf("%s: a value was obeyed", page)
		}
		if elsewhere := tell[string](p, `[...document.querySelectorAll("a[href],link[href],form[action],img,iframe,base")].map(e => e.href || e.action || e.src).filter(u => !u.startsWith(location.origin + "/")).join(" ")`); elsewhere != "" {
			t.Errorf("%s leads to %s", page, elsewhere)
		}
		if wide := tell[int](p, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); wide > 0 {
			t.Errorf("%s is %d pixels wider than the window", page, wide)
		}
		p.mu.Lock()
		for _, c := range p.complaints {
			if !strings.Contains(c, "the server responded with a status of 40") { // pages that are not there
				t.Errorf("%s: %s", page, c)
			}
		}
		p.complaints = nil
		p.mu.Unlock()
	}
}

// TestBrowserShowsWhatHappensWhereSomebodyIs: it is never loaded again, and yet says what happened; what has the focus, how far it
// is scrolled and what is written into the filter stay.
func TestBrowserShowsWhatHappensWhereSomebodyIs(t *testing.T) {
	w := everyState(t)
	p := open(t, w)
	p.visit("/")
	tell[bool](p, `document.querySelector("#all-dev a").focus(); scrollTo(0, 100); document.querySelector("#filter").value = "half written"; window.loadedOnce = true`)
	w.beat("dev", "a1", fleet.Failing, func(b *events.Beat) {
		b.Clock, b.Reason, b.Message = b.Clock.Add(time.Second), events.ReasonConnector, "the disk is full"
	})
	p.until("the page shows the failure", `document.querySelector("#attention-dev")?.innerText.includes("the disk is full") ?? false`)
	p.until("the headline counts it", `document.querySelector("h1").innerText.startsWith("8 of 10")`)
	p.until("it is read out", `document.getElementById("said").textContent.startsWith("8 of 10")`)
	w.beat("dev", "a1", fleet.InStep, func(b *events.Beat) { b.Clock = b.Clock.Add(2 * time.Second) })
	p.until("the page shows the recovery", `document.querySelector("#attention-dev") === null && document.querySelector("#all-dev") !== null`)
	for what, script := range map[string]string{
		"the page was not loaded again": `window.loadedOnce === true`, "the filter is as it was written": `document.querySelector("#filter").value === "half written"`,
		"it is scrolled as it was": `scrollY === 100`,
	} {
		if !tell[bool](p, script) {
			t.Errorf("not so: %s", what)
		}
	}
	tell[bool](p, `document.querySelector("#all-test a").focus(); true`)
	w.beat("prod-eu", "a1", fleet.Failing, func(b *events.Beat) {
		b.Clock, b.Reason, b.Message = b.Clock.Add(time.Second), events.ReasonConnector, "the disk is full"
	})
	p.until("the page shows another failure", `document.querySelector("#attention-prod-eu").innerText.includes("the disk is full")`)
	if !tell[bool](p, `document.activeElement === document.querySelector("#all-test a")`) {
		t.Error("the focus went elsewhere")
	}
	p.clean("/")
}

// TestBrowserSaysThatItIsCutOff: where the publisher does not answer, the page says so and since when; it says so no more when it has.
func TestBrowserSaysThatItIsCutOff(t *testing.T) {
	p := open(t, small(t))
	p.visit("/")
	p.until("it is live", `!document.getElementById("live").hidden && document.getElementById("cut").hidden`)
	tell[bool](p, `window.noted = ""; new MutationObserver(() => { if (!document.getElementById("cut").hidden) noted += document.getElementById("cut").innerText })
		.observe(document.getElementById("cut"), {attributes: true, childList: true}); true`)
	for deadline := time.Now().Add(limit); !tell[bool](p, `noted.includes("is cut")`); p.server.CloseClientConnections() { // the stream may still be on its way
		if time.Now().After(deadline) {
			t.Fatal("the cut is not said")
		}
	}
	p.until("it is live again", `document.getElementById("cut").hidden`)
	tell[bool](p, `document.getElementById("pause").click(); true`)
	p.until("it says that it is paused", `document.getElementById("cut").innerText.includes("paused") && document.getElementById("pause").getAttribute("aria-pressed") === "true"`)
	tell[bool](p, `document.getElementById("pause").click(); true`)
	p.until("it goes on", `document.getElementById("cut").hidden`)
}

// TestBrowserWithoutScripts: all is there, links lead on, the filter filters; and a page that nobody renews says
// so after a minute.
func TestBrowserWithoutScripts(t *testing.T) {
	p := open(t, everyState(t))
	p.run(send(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}), send(animation.Enable, cdp.Empty{}))
	p.visit("/")
	text := func(selector chromedp.CSS) string {
		t.Helper()
		out, err := chromedp.Run(p.ctx, chromedp.TextContent(selector))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if h1 := text("h1"); !strings.HasPrefix(h1, "7 of 10 environments") {
		t.Errorf("headline %q", h1)
	}
	p.run(chromedp.SendKeys(chromedp.CSS("#filter"), "region=ap\n"), chromedp.WaitNotPresent(chromedp.CSS("#attention-tenant-alba")))
	if h1 := text("h1"); h1 != "The environment is not in step" {
		t.Errorf("filtered headline %q", h1)
	}
	p.run(chromedp.Click(chromedp.CSS("#attention-prod-ap a")), chromedp.WaitVisible(chromedp.CSS("#agents")))
	old := `getComputedStyle(document.querySelector(".old")).visibility`
	if tell[string](p, old) != "hidden" {
		t.Error("a new page says that it is old")
	}
	p.run(send(animation.SetPlaybackRate, animation.SetPlaybackRateParams{PlaybackRate: 100}))
	p.until("it says that it is old", old+` === "visible" && document.querySelector(".old").offsetHeight > 20`)
}

// TestBrowserByKeyboard: the first stop leads past the navigation, and every stop can be seen.
func TestBrowserByKeyboard(t *testing.T) {
	p := open(t, everyState(t))
	p.visit("/")
	p.run(chromedp.KeyEvent("\t"))
	if at := tell[string](p, `document.activeElement.textContent`); at != "Skip to the content" {
		t.Errorf("the first stop is %q", at)
	}
	p.run(chromedp.KeyEvent("\r"))
	p.until("the content has the focus", `document.activeElement.id === "main"`)
	stops := map[string]bool{}
	for range 60 {
		p.run(chromedp.KeyEvent("\t"))
		stop := tell[string](p, `(() => { const e = document.activeElement, r = e.getBoundingClientRect(), s = getComputedStyle(e); return r.width && s.outlineStyle !== "none" ? e.outerHTML.slice(0, 120) : "unseen " + e.outerHTML.slice(0, 120); })()`)
		if strings.HasPrefix(stop, "unseen <") && !strings.HasPrefix(stop, "unseen <body") {
			t.Errorf("a stop is not seen: %s", stop)
		}
		stops[stop] = true
	}
	for _, want := range []string{"attention-tenant-alba", "tenant-delta", "/api/v1/fleet"} {
		found := false
		for stop := range stops {
			found = found || strings.Contains(stop, strings.TrimPrefix(want, "attention-"))
		}
		if !found {
			t.Errorf("%s is not reached", want)
		}
	}
}
