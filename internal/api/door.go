package api

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lockstep-dev/lockstep/internal/access"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

const (
	// LinksPath is where a link is asked for.
	LinksPath = Prefix + "/links"
	// linkPath is where a link is followed; its secret comes after.
	linkPath = "/open/"
	// logoutPath is where a browser ends its session.
	logoutPath = "/logout"
	// sessionCookie has the prefix by which browsers take it over TLS only, for this host only, from this host only.
	sessionCookie = "__Host-lockstep-session"
	// lookAgain is how often it is looked whether who reads a stream may still read.
	lookAgain = 5 * time.Second
)

// Reasons why a request is not answered that stand beside those of internal/access. They are labels of a metric.
const (
	ReasonHost        events.Reason = "host-unknown"
	ReasonOrigin      events.Reason = "cross-origin"
	ReasonNoTLS       events.Reason = "tls-missing"
	ReasonCertificate events.Reason = "certificate-missing"
	ReasonReadsOnly   events.Reason = "session-reads-only"
)

// A Link opens a session in a browser, once.
type Link struct {
	Path    string    `json:"path" doc:"below the publisher's address"`
	Expires time.Time `json:"expires,omitzero" doc:"absent where no session is needed"`
}

// A door lets in who may read. Every request goes through it, whatever it is for.
type door struct {
	Options
	sessions *access.Sessions
	inside   http.Handler
}

// ServeHTTP lets requests from this machine in, and others with what the newest trust document demands: under "approvals are names" a
// client certificate, which the listener has verified; otherwise a token, or for reads by browsers a session.
func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if d.local(r) {
		d.inside.ServeHTTP(w, r)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	approvals := ""
	_ = d.under(func(trust *events.Trust) error { approvals = trust.Approvals; return nil }) // empty then
	link, following := strings.CutPrefix(r.URL.Path, linkPath)
	switch {
	case approvals == "":
		refuseAs(w, &Problem{Status: http.StatusServiceUnavailable, Kind: KindUnavailable, Reason: events.ReasonStartup,
			Detail: "the ledger has not been read yet, and says who may read", Next: "try again when the publisher is ready"})
	case approvals == events.ApprovalsAreNames && (!d.Beyond || certified(r)):
		d.inside.ServeHTTP(w, r)
	case approvals == events.ApprovalsAreNames:
		d.refuse(w, r, events.Errorf(ReasonCertificate, "while approvals are names, other hosts are served with client certificates only"))
	case !overTLS(r):
		d.refuse(w, r, events.Errorf(ReasonNoTLS, "other hosts are served over TLS only"))
	case following && r.Method == http.MethodGet && !strings.Contains(link, "/"):
		d.follow(w, r, link)
	case r.URL.Path == logoutPath && r.Method == http.MethodGet:
		note(w, `<form method="post" action="`+logoutPath+`"><button>End this browser’s session</button></form>`, "")
	case r.URL.Path == logoutPath && r.Method == http.MethodPost:
		d.logout(w, r)
	default:
		d.admit(w, r)
	}
}

// local says whether a request comes from this machine: the listener is loopback's, it is reached by a loopback name, and no proxy
// says that it passes on what others ask.
func (d *door) local(r *http.Request) bool {
	passedOn := slices.ContainsFunc([]string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "Via"}, func(name string) bool { return r.Header.Get(name) != "" })
	return !d.Beyond && !passedOn && ours(r.Host, nil)
}

func certified(r *http.Request) bool { return r.TLS != nil && len(r.TLS.VerifiedChains) > 0 }

// overTLS believes a proxy on this machine, whose word it is for who asks over it.
func overTLS(r *http.Request) bool {
	return r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https"
}

var errNoTrust = errors.New("the ledger has not begun")

// under calls fn with the newest trust document.
func (d *door) under(fn func(*events.Trust) error) error {
	err := errNoTrust
	d.Backend.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) {
		if trust := s.Trust(); trust != nil {
			err = fn(trust)
		}
	})
	return err
}

type holderKey struct{}

// admit lets a request in while who sends it may read, however long it takes.
func (d *door) admit(w http.ResponseWriter, r *http.Request) {
	check := d.credential(r)
	may := func() (holder access.Holder, err error) {
		err = d.under(func(trust *events.Trust) (err error) {
			holder, err = check(trust, time.Now())
			return err
		})
		return holder, err
	}
	holder, err := may()
	if err != nil {
		d.refuse(w, r, err)
		return
	}
	ctx, cancel := context.WithCancel(context.WithValue(r.Context(), holderKey{}, holder))
	defer cancel()
	go func() {
		again := time.NewTicker(lookAgain)
		defer again.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-again.C:
			}
			if _, err := may(); err != nil {
				cancel()
			}
		}
	}()
	d.inside.ServeHTTP(w, r.WithContext(ctx))
}

// credential is how a request says who sends it. A token counts, even a bad one, where there is one.
func (d *door) credential(r *http.Request) func(*events.Trust, time.Time) (access.Holder, error) {
	if said := r.Header.Values("Authorization"); len(said) > 0 {
		scheme, token, _ := strings.Cut(said[0], " ")
		use := access.Use{Verb: access.Read, Host: hostname(r.Host)}
		if r.URL.Path == LinksPath {
			use.Verb = access.Open
		}
		return func(trust *events.Trust, now time.Time) (access.Holder, error) {
			if len(said) > 1 || !strings.EqualFold(scheme, "Bearer") {
				return access.Holder{}, events.Errorf(access.ReasonNoToken, "the header Authorization holds no one bearer token")
			}
			return access.Check(token, use, trust, now)
		}
	}
	cookies := r.CookiesNamed(sessionCookie)
	return func(trust *events.Trust, now time.Time) (access.Holder, error) {
		switch {
		case len(cookies) != 1:
			return access.Holder{}, events.Errorf(access.ReasonNoToken, "other hosts are served with a token or a session only")
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			return access.Holder{}, events.Errorf(ReasonReadsOnly, "a session reads only")
		}
		return d.sessions.Check(cookies[0].Value, trust, now)
	}
}

// follow opens a session. It answers with a page, not with a redirection: after one that a page elsewhere began, browsers would not
// send the cookie.
func (d *door) follow(w http.ResponseWriter, r *http.Request, link string) {
	now := time.Now()
	var session string
	if err := d.under(func(trust *events.Trust) (err error) {
		session, err = d.sessions.Follow(link, trust, now)
		return err
	}); err != nil {
		d.refuse(w, r, err)
		return
	}
	d.endSessions(r)
	setSession(w, session, int(access.SessionLife/time.Second))
	note(w, "<p>You may look until "+now.Add(access.SessionLife).UTC().Format(time.RFC3339)+`. <a href="/">Go on</a></p>`, `<meta http-equiv="refresh" content="0; url=/">`)
}

func (d *door) logout(w http.ResponseWriter, r *http.Request) {
	d.endSessions(r)
	setSession(w, "", -1)
	note(w, "<p>The session is over. <code>publisher open</code> prints a link that opens another.</p>", "")
}

// endSessions ends those that a browser still shows.
func (d *door) endSessions(r *http.Request) {
	for _, c := range r.CookiesNamed(sessionCookie) {
		d.sessions.End(c.Value)
	}
}

func setSession(w http.ResponseWriter, session string, seconds int) {
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Value: session, Path: "/", MaxAge: seconds, HttpOnly: true, Secure: true, SameSite: http.SameSiteStrictMode})
}

// note answers people with a page that says the same to everybody.
func note(w http.ResponseWriter, body, head string) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = fmt.Fprintf(w, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">%s<title>Lockstep</title></head><body>%s</body></html>\n", head, body) // the client is gone, or reads it
}

// remedies are what to do about a refusal.
var remedies = map[events.Reason]string{
	access.ReasonNoToken:     "the command line sends one by itself where it has a key of yours; other programs send what 'publisher token' writes; for a browser, 'publisher open' prints a link",
	access.ReasonOtherUse:    "make one for this publisher with 'publisher token --server URL'",
	access.ReasonExpired:     "make another with 'publisher token', and look at the clock",
	access.ReasonNoRole:      "an administrator grants one; auditor is for who only reads",
	access.ReasonLink:        "ask for another with 'publisher open'",
	access.ReasonSession:     "ask for a link that opens another with 'publisher open'",
	events.ReasonMalformed:   "make another with 'publisher token'",
	events.ReasonWrongLedger: "make one for this publisher with 'publisher token --server URL'",
	events.ReasonSignature:   "use a key that 'publisher trust show' lists as yours",
	ReasonNoTLS:              "use https; a proxy in front says so in X-Forwarded-Proto",
	ReasonCertificate:        "show one that --tls-client-ca of the publisher signed, or sign what is done here with 'publisher trust init'",
	ReasonReadsOnly:          "write with the command line, which signs",
}

// Refusals are all reasons with which Options.Refused is called.
func Refusals() []events.Reason {
	return append(slices.Sorted(maps.Keys(remedies)), ReasonHost, ReasonOrigin, ledger.ReasonUnsigned, ledger.ReasonStatement)
}

// forbidden are reasons that no other token mends.
var forbidden = []events.Reason{access.ReasonNoRole, access.ReasonLink, ReasonNoTLS, ReasonCertificate, ReasonReadsOnly}

// refuse says why a request is not let in, and how to ask again: the challenge names the ledger, for which a token is signed.
func (d *door) refuse(w http.ResponseWriter, r *http.Request, err error) {
	reason := events.ReasonOf(err)
	p := &Problem{Status: http.StatusUnauthorized, Kind: ledger.KindDenied, Reason: reason, Detail: events.MessageOf(err), Next: remedies[reason]}
	if slices.Contains(forbidden, reason) {
		p.Status = http.StatusForbidden
	} else {
		challenge := ""
		_ = d.under(func(trust *events.Trust) error { challenge = challengeOf(trust.Ledger); return nil }) // it was there just now
		if r.Header.Get("Authorization") != "" {
			challenge += `, error="invalid_token"`
		}
		w.Header().Set("WWW-Authenticate", challenge)
	}
	d.refused(reason)
	refuseAs(w, p)
}

func challengeOf(id string) string { return `Bearer realm="lockstep", ledger="` + id + `"` }

// Challenged is the ledger for which a refusal's header WWW-Authenticate asks a token; "" where it asks none.
func Challenged(header string) string {
	_, rest, _ := strings.Cut(header, `Bearer realm="lockstep", ledger="`)
	id, _, _ := strings.Cut(rest, `"`)
	if len(id) > 64 {
		return ""
	}
	return id
}

// refused counts a refusal.
func (o Options) refused(reason events.Reason) {
	if o.Refused != nil {
		o.Refused(reason)
	}
}

func registerLinks(api huma.API, sessions *access.Sessions) {
	huma.Register(api, huma.Operation{
		OperationID: "open", Method: http.MethodPost, Path: LinksPath, Tags: []string{"sessions"},
		Summary: "Ask for a link that opens a browser's session, once, within a minute; its token is for this alone",
	}, func(ctx context.Context, _ *struct{}) (*answer[Link], error) {
		holder, asked := ctx.Value(holderKey{}).(access.Holder)
		if !asked {
			return answered(Link{Path: "/"}, nil) // who is let in without a token needs no session
		}
		now := time.Now()
		return answered(Link{Path: linkPath + sessions.Link(holder, now), Expires: now.Add(access.LinkLife).UTC()}, nil)
	})
}

// describeSecurity says in the API's description how those ask who are not on the publisher's machine.
func describeSecurity(config *huma.Config) {
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token":       {Type: "http", Scheme: "bearer", BearerFormat: "DSSE", Description: "From other hosts, once a trust document says who signs: a person's signed statement for this ledger and host, which ends. 'publisher token' makes one. Writes carry a signed statement of their own beside it."},
		"session":     {Type: "apiKey", In: "cookie", Name: sessionCookie, Description: "Reads of a browser that followed a link of 'publisher open'."},
		"certificate": {Type: "mutualTLS", Description: "From other hosts while approvals are names, and wherever the publisher has --tls-client-ca."},
	}
	config.Security = []map[string][]string{{"token": {}}, {"session": {}}, {"certificate": {}}, {}}
}

// SignOut is where whoever asks ends their session; "" where they show none.
func SignOut(r *http.Request) string {
	if len(r.CookiesNamed(sessionCookie)) == 0 {
		return ""
	}
	return logoutPath
}
