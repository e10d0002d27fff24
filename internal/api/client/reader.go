package client

import (
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/lockstep-dev/lockstep/internal/access"
	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A reader says who reads, once the publisher has asked: each request then carries a token that lives for minutes.
type reader struct {
	url    *url.URL // of the publisher
	as     string
	key    func() (*events.Signer, error)
	ledger atomic.Pointer[string] // for which the publisher demands tokens; nil: it has not asked
}

// Identify lets the client say who reads where the publisher asks, which those on this machine do not. The key is read then, and not
// before.
func (c *Client) Identify(as string, key func() (*events.Signer, error)) {
	c.reader.as, c.reader.key = as, key
}

// learn takes a refusal's challenge, and says whether the same request, with a token, is worth another try.
func (r *reader) learn(refusal http.Header) bool {
	id := api.Challenged(refusal.Get("WWW-Authenticate"))
	if id == "" || r.key == nil || r.ledger.Load() != nil {
		return false
	}
	r.ledger.Store(&id)
	return true
}

// sign adds a token to a request, where they are asked for.
func (r *reader) sign(request *http.Request) error {
	id := r.ledger.Load()
	if id == nil {
		return nil
	}
	if r.url.Scheme != "https" {
		return &ledger.Error{Kind: ledger.KindDenied, Message: "the publisher asks who reads, and what says so is not sent without TLS", Next: "write its address with https://"}
	}
	signer, err := r.key()
	if err != nil {
		return err
	}
	use := access.Use{Verb: access.Read, Host: r.url.Hostname()}
	if request.URL.Path == api.LinksPath {
		use.Verb = access.Open
	}
	token, err := access.Mint(use, *id, r.as, signer, time.Now(), access.Brief)
	if err == nil {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	return err
}
