package dashboard

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

//go:embed templates
var templates embed.FS

// shared is what all pages have in common.
var shared = template.Must(template.New("").Funcs(template.FuncMap{
	"text": text, "brief": brief, "commands": commands, "labelled": func(name, value string) string { return address([]string{plain(name) + "=" + plain(value)}) }, "plain": plain, "ago": ago, "for": lasting, "stamp": stamp, "count": count, "thousands": thousands,
	"span": fleet.Span, "icon": icon, "slug": slug, "short": events.Digest.Short, "summary": summary,
	"sections": sections, "table": table, "grouped": grouped, "long": long, "kebab": kebab, "phases": phaseList, "phase": phaseWord,
	"few": few, "said": func(r events.Reason) template.HTML { return brief(string(r)) }, "parts": parts, "day": day, "bound": bound, "rows": rows, "fares": fares, "bar": bar, "spark": spark, "course": course, "overTime": overTime,
}).ParseFS(templates, "templates/layout.html", "templates/parts.html"))

// parsed are the pages by name.
var parsed = func() map[string]*template.Template {
	out := map[string]*template.Template{}
	files, err := templates.ReadDir("templates")
	if err != nil {
		panic(err)
	}
	for _, f := range files {
		if name := strings.TrimSuffix(f.Name(), ".html"); name != "layout" && name != "parts" {
			out[name] = template.Must(template.Must(shared.Clone()).ParseFS(templates, "templates/"+f.Name()))
		}
	}
	return out
}()

// A page is what a template shows.
type page struct {
	Title   string
	Section string // of the navigation
	AsOf    time.Time
	Of      string // the environment that it is about; "": everything
	Mark    string // of what it is about
	Ledger  fleet.LedgerView
	Warned  []string // what is wrong with the data of all pages
	Version string
	SignOut string // where the session of whoever asks is ended; "" where there is none
	Body    any
	view    fleet.View // as the snapshot has it
	told    *told
}

// page serves a page: build fills it in.
func (d *dashboard) page(name string, build func(r *http.Request, p *page) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now, signOut := d.now(false), ""
		if d.SignOut != nil {
			signOut = d.SignOut(r)
		}
		page := now.page(signOut+" "+r.URL.RequestURI(), func(s *snapshot) made { return d.render(s, name, signOut, r, build) })
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(page.status)
		_, _ = w.Write(page.body) // the client has gone
	})
}

func (d *dashboard) render(now *snapshot, name, signOut string, r *http.Request, build func(r *http.Request, p *page) error) made {
	p := &page{AsOf: now.view.AsOf, Ledger: now.view.Ledger, Version: d.Version, SignOut: signOut, Warned: warnings(now.view), view: now.view, told: &now.told}
	status := http.StatusOK
	if err := build(r, p); err != nil {
		name, status = "missing", statusOf(err)
		p.Title, p.Section, p.Body = http.StatusText(status), "", err
	}
	p.Mark = now.markOf(p.Of)
	var b bytes.Buffer
	if err := parsed[name].ExecuteTemplate(&b, "layout", p); err != nil {
		return made{http.StatusInternalServerError, p.Of, []byte("the page cannot be shown: " + template.HTMLEscapeString(plain(err.Error())))}
	}
	return made{status, p.Of, seen(b.String())}
}

// seen names what a page holds that would not be seen: templates have named it where somebody's words are shown, and this is for where
// one forgets to.
func seen(page string) []byte {
	out := make([]byte, 0, len(page))
	for _, r := range page {
		if name := odd(r); name != "" && r != '\n' && r != narrow {
			out = append(out, name...)
			continue
		}
		out = utf8.AppendRune(out, r)
	}
	return out
}

func statusOf(err error) int {
	switch ledger.KindOf(err) {
	case ledger.KindNotFound:
		return http.StatusNotFound
	case ledger.KindInvalid:
		return http.StatusBadRequest
	}
	return http.StatusInternalServerError
}

// missing is the page of what is not there.
func (d *dashboard) missing(r *http.Request, _ *page) error {
	return &ledger.Error{Kind: ledger.KindNotFound, Message: "there is no page " + plain(r.URL.Path), Next: "begin at the overview"}
}

// warnings are what makes everything that is shown doubtful.
func warnings(v fleet.View) (out []string) {
	l := v.Ledger
	switch {
	case l.Writable:
	case l.Reason == events.ReasonBusDown:
		out = append(out, fmt.Sprintf("The bus is not reachable since %s: what agents said since then is not shown here.", l.Since.UTC().Format("15:04:05Z")))
	default:
		out = append(out, fmt.Sprintf("The ledger is not verified (%s): %s. Nothing can be proposed, approved or rolled back until it is; see 'publisher doctor'.", l.Reason, strings.TrimSuffix(l.Message, ".")))
	}
	if l.Durability != "proven" {
		out = append(out, "Durability is "+l.Durability+": what is called released here may be lost with the power.")
	}
	for _, loss := range l.Losses {
		out = append(out, "The ledger was repaired with a loss: "+loss.String()+".")
	}
	for _, r := range v.Reviews {
		out = append(out, fmt.Sprintf("Break-glass: %s released %s alone (%s), and not enough people have signed that off.", r.By, r.Change, r.Reason))
	}
	return out
}

// slug is a condition as a class of the style sheet.
func slug(c fleet.Condition) string { return strings.ReplaceAll(string(c), " ", "-") }

// icon refers to a drawing in the layout.
func icon(name string) template.HTML {
	return template.HTML(`<svg class="icon" aria-hidden="true" focusable="false" width="16" height="16"><use href="#i-` + template.HTMLEscapeString(name) + `"/></svg>`) // escaped
}
