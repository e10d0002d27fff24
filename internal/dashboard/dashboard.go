package dashboard

import (
	"embed"
	"net/http"
	"sync"
	"time"

	"github.com/lockstep-dev/lockstep/internal/audit"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/notify"
)

// A Backend is what the pages show: a publisher, or a ledger in memory.
type Backend interface {
	// Read calls fn with what is known now; fn must not keep or change it.
	Read(fn func(s *ledger.State, r fleet.Reports, asOf time.Time))
	// Fleet is where every environment stands now.
	Fleet() fleet.View
	// Decisions are those that a filter wants before an entry, or the newest where that is 0: newest first, and at most so many.
	Decisions(f audit.Filter, before uint64, most int) audit.Page
	// Alarms are what this publisher tells of what is wrong; an error of ledger.KindNotFound where it was told to tell nobody.
	Alarms() (notify.Overview, error)
}

// Options are what a dashboard shows.
type Options struct {
	Backend Backend
	Version string          // of the program
	Done    <-chan struct{} // closed when the streams of those who watch are to end; nil: never
	// SignOut is where whoever asks ends their session; "" where they have none. Nil: nobody has one.
	SignOut func(*http.Request) string
}

// pause is how long a snapshot is shown before another is taken, at least.
const pause = 500 * time.Millisecond

type dashboard struct {
	Options
	pause time.Duration

	one     sync.Mutex // held while a snapshot is taken; before mu
	mu      sync.Mutex
	last    *snapshot
	taking  bool // another snapshot is being taken
	streams int  // that are open
}

// New is the dashboard as a handler of everything below "/".
func New(o Options) http.Handler { return newDashboard(o, pause) }

func newDashboard(o Options, pause time.Duration) http.Handler {
	d := &dashboard{Options: o, pause: pause}
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", d.page("overview", d.overview))
	mux.Handle("GET /environments/{name}", d.page("environment", d.environment))
	mux.Handle("GET /changes", d.page("changes", d.changes))
	mux.Handle("GET /changes/{id}", d.page("change", d.change))
	mux.Handle("GET /propagation", d.page("propagation", d.propagation))
	mux.Handle("GET /approvals", d.page("approvals", d.approvals))
	mux.Handle("GET /alarms", d.page("alarms", d.alarms))
	mux.Handle("GET /flags", d.page("flags", d.flags))
	mux.Handle("GET /delivery", d.page("delivery", d.delivery))
	mux.Handle("GET /audit", d.page("audit", d.audit))
	mux.HandleFunc("GET /live", d.live)
	mux.HandleFunc("GET /assets/{name}", asset)
	mux.Handle("GET /", d.page("missing", d.missing))
	return secure(mux)
}

// policy lets a page use what this server serves, and nothing else; nothing inline is run or styled.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		next.ServeHTTP(w, r)
	})
}

//go:embed assets
var assets embed.FS

var assetTypes = map[string]string{"style.css": "text/css; charset=utf-8", "live.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml"}

// asset serves one of the files that pages refer to.
func asset(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	body, err := assets.ReadFile("assets/" + name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", assetTypes[name])
	w.Header().Set("Cache-Control", "max-age=3600") // their addresses change with the program's version
	_, _ = w.Write(body)                            // the client has gone
}
