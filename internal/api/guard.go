package api

import (
	"encoding/json"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/lockstep-dev/lockstep/internal/ledger"
)

// guard keeps web pages out: a request must name one of our hosts (a page that rebinds its own name to 127.0.0.1 still sends that
// name), and a write must be JSON (a form is not) and not come from another origin.
func guard(o Options, next http.Handler) http.Handler {
	sameOrigin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		closed(w.Header())
		if !ours(r.Host, o.Hosts) {
			o.refused(ReasonHost)
			refuse(w, http.StatusForbidden, ledger.KindDenied, "the Host is not a name of this publisher",
				"use a loopback name, or let the publisher know the name with --host")
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); (err != nil || media != "application/json") && r.URL.Path != logoutPath {
				refuse(w, http.StatusUnsupportedMediaType, ledger.KindInvalid, "writes are taken as application/json only", "send the header Content-Type: application/json")
				return
			}
			if err := sameOrigin.Check(r); err != nil {
				o.refused(ReasonOrigin)
				refuse(w, http.StatusForbidden, ledger.KindDenied, "the request comes from a page of another origin", "")
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// closed has a browser run and show nothing of an answer, and put it into no frame. Pages say instead what they need.
func closed(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
}

// known answers for paths and methods that the mux does not have: with a page for people where there are pages, and below the API with
// a problem, as everything else there is answered.
func known(mux *http.ServeMux, pages http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := mux.Handler(r); pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		read := r.Method == http.MethodGet || r.Method == http.MethodHead
		if pages != nil && read && !strings.HasPrefix(r.URL.Path, "/api/") {
			pages.ServeHTTP(w, r)
			return
		}
		unknown := &headers{header: w.Header()}
		mux.ServeHTTP(unknown, r)
		if unknown.status == http.StatusMethodNotAllowed {
			refuse(w, unknown.status, ledger.KindInvalid, r.URL.Path+" does not take "+r.Method, "send one of: "+w.Header().Get("Allow"))
			return
		}
		refuse(w, http.StatusNotFound, ledger.KindNotFound, "there is nothing at "+r.URL.Path, "look at "+Prefix+"/openapi.json")
	})
}

// headers keeps of an answer what stands before its body.
type headers struct {
	header http.Header
	status int
}

func (h *headers) Header() http.Header         { return h.header }
func (h *headers) WriteHeader(status int)      { h.status = status }
func (h *headers) Write(b []byte) (int, error) { return len(b), nil }

func ours(host string, names []string) bool {
	host = hostname(host)
	if host == "localhost" || slices.Contains(names, host) {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// hostname is a Host without its port, as names are compared.
func hostname(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.Trim(strings.ToLower(strings.TrimSuffix(host, ".")), "[]")
}

// refuse writes a problem before the API proper is reached.
func refuse(w http.ResponseWriter, status int, kind ledger.Kind, detail, next string) {
	refuseAs(w, &Problem{Status: status, Detail: detail, Kind: kind, Next: next})
}

func refuseAs(w http.ResponseWriter, p *Problem) {
	p.Title = http.StatusText(p.Status)
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client is gone, or reads it
}
