//go:build browser

package dashboard_test

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/lockstep-dev/lockstep/internal/dashboard"
)

// limit is how long a browser may take for one step, on a machine that does other things too.
const limit = 2 * time.Minute

// chromium is one browser for all tests.
var chromium = sync.OnceValues(func() (context.Context, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		options := []chromedp.ExecAllocatorOption{chromedp.ExecPath(path), chromedp.WSURLReadTimeout(limit), chromedp.Headless, chromedp.Flag("disable-dev-shm-usage", true)}
		if os.Getuid() == 0 {
			options = append(options, chromedp.NoSandbox)
		}
		ctx, _ := chromedp.NewContext(context.Background(), chromedp.WithAllocatorOptions(options...))
		closeBrowser = func() error { return chromedp.Cancel(ctx) }
		return ctx, chromedp.Do(ctx)
	}
	return nil, errors.New("there is no chromium on the PATH: install it, as .ci/run browser does")
})

var closeBrowser = func() error { return nil }

func TestMain(m *testing.M) {
	code := m.Run()
	_ = closeBrowser() // its process ends with this one in any case
	os.Exit(code)
}

// A tab is a page as a person has it before them, with what it complained about.
type tab struct {
	t          testing.TB
	ctx        context.Context
	server     *httptest.Server
	url        string
	mu         sync.Mutex
	complaints []string
}

// observer notes what a page's policy refused. It is not the page's: nothing of the page could run it.
const observer = `addEventListener("securitypolicyviolation", e => console.error("policy: " + e.violatedDirective + " " + e.blockedURI + " " + e.sample));`

// open serves a world and opens a tab.
func open(t testing.TB, b dashboard.Backend) *tab {
	t.Helper()
	browser, err := chromium()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(dashboard.New(dashboard.Options{Backend: b, Version: "v1", Done: t.Context().Done()}))
	ctx, cancel := chromedp.NewContext(browser)
	tab := &tab{t: t, ctx: ctx, server: server, url: server.URL}
	t.Cleanup(func() {
		cancel()
		server.CloseClientConnections()
		server.Close()
	})
	if err := chromedp.Listen(ctx, tab.listen); err != nil {
		t.Fatal(err)
	}
	tab.run(
		send(log.Enable, cdp.Empty{}), send(runtime.Enable, cdp.Empty{}),
		send(cdppage.AddScriptToEvaluateOnNewDocument, cdppage.AddScriptToEvaluateOnNewDocumentParams{Source: observer}),
	)
	return tab
}

// send is a command of the browser's protocol as a step.
func send[P, R any](command cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, command, params)
		return err
	})
}

func (p *tab) listen(event any) {
	complaint := ""
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		complaint = "exception: " + e.ExceptionDetails.Text
	case *runtime.EventConsoleAPICalled:
		var said []string
		for _, arg := range e.Args {
			said = append(said, string(arg.Value))
		}
		complaint = "console " + string(e.Type) + ": " + strings.Join(said, " ")
	case *log.EventEntryAdded:
		complaint = "log " + string(e.Entry.Level) + ": " + e.Entry.Text + " " + e.Entry.URL
	case *cdppage.EventJavascriptDialogOpening:
		complaint = "a dialog opened: " + e.Message
	default:
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.complaints = append(p.complaints, complaint)
}

func (p *tab) run(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, limit)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		p.t.Fatal(err)
	}
}

func (p *tab) visit(path string) {
	p.t.Helper()
	p.run(chromedp.Navigate(p.url+path), chromedp.WaitVisible(chromedp.CSS("main h1")))
}

// tell is what a script of ours says of a page.
func tell[T any](p *tab, script string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, limit)
	defer cancel()
	out, err := chromedp.Run(ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

// clean fails where the page complained.
func (p *tab) clean(page string) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.complaints {
		p.t.Errorf("%s: %s", page, c)
	}
	p.complaints = nil
}

// look is how somebody looks at pages.
type look struct {
	name          string
	width, height int64
	dark          bool
	text          int64 // pixels, as this person's browser is told; 0: as usual
}

func (p *tab) as(l look) {
	p.t.Helper()
	scheme := "light"
	if l.dark {
		scheme = "dark"
	}
	p.run(
		send(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: l.width, Height: l.height, DeviceScaleFactor: 1, Mobile: l.width < 500}),
		send(cdppage.SetFontSizes, cdppage.SetFontSizesParams{FontSizes: &cdppage.FontSizes{Standard: cmp.Or(l.text, 16)}}),
		send(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}),
	)
}

//go:embed testdata/axe.min.js
var axe string

// A barrier is what axe found.
type barrier struct {
	ID    string `json:"id"`
	Help  string `json:"help"`
	Nodes []struct {
		HTML    string `json:"html"`
		Summary string `json:"failureSummary"`
	} `json:"nodes"`
}

// barriers are what keeps people out of a page, by some of axe-core's rules.
func (p *tab) barriers(rules string) (out []barrier) {
	p.t.Helper()
	tell[int](p, axe+";0")
	found := tell[string](p, `axe.run(document, {resultTypes: ["violations"], runOnly: `+rules+`}).then(r => JSON.stringify(r.violations))`)
	if err := json.Unmarshal([]byte(found), &out); err != nil {
		p.t.Fatal(err)
	}
	return out
}
