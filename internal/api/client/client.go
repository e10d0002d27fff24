package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/exchange"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/notify"
	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

const (
	callTimeout   = 20 * time.Second // of one attempt
	dirTimeout    = 5 * time.Minute  // where a directory is compiled
	verifyTimeout = 10 * time.Minute // reading a whole ledger takes its time
	attempts      = 3                // of a command whose answer is lost
	retryPause    = 300 * time.Millisecond
	maxAnswer     = 64 << 20 // bytes
)

// A Client calls one publisher.
type Client struct {
	base   string
	http   *http.Client
	reader reader
}

// New is a client of the target's publisher.
func New(target Target) (*Client, error) {
	u, err := url.Parse(target.Server)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return nil, &ledger.Error{Kind: ledger.KindInvalid, Message: strconv.Quote(target.Server) + " is no server address", Next: "write it as in http://127.0.0.1:7070"}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if transport.TLSClientConfig, err = target.TLS.config(); err != nil {
		return nil, err
	}
	// What is sent is for this publisher alone, wherever it says that it has moved.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{base: u.Scheme + "://" + u.Host, http: &http.Client{Transport: transport, CheckRedirect: stay}, reader: reader{url: u}}, nil
}

// Server is the publisher's address.
func (c *Client) Server() string { return c.base }

// Host is its name or address, without a port.
func (c *Client) Host() string { return c.reader.url.Hostname() }

// Do sends a command, again with the same id where its answer was lost.
func (c *Client) Do(ctx context.Context, command ledger.Command, dryRun bool) (out ledger.Outcome, err error) {
	body := api.Request[ledger.Body]{ID: command.ID, By: command.By, DryRun: dryRun, TraceParent: command.TraceParent, Statement: command.Statement, Command: command.Body}
	limit := callTimeout
	if carriesDirectory(command.Body) {
		limit = dirTimeout
	}
	var lost *lostError
	for attempt := 1; ; attempt++ {
		err = c.call(ctx, limit, http.MethodPost, api.CommandPath(command), body, &out)
		again := errors.As(err, &lost)
		if again && attempt < attempts {
			select {
			case <-time.After(retryPause):
				continue
			case <-ctx.Done():
				err = context.Cause(ctx)
			}
		}
		if dryRun {
			return out, err
		}
		const doubt = "it may have been carried out"
		next := "try again with --idempotency-key " + command.ID + ": it is done once"
		switch {
		case ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
			err = &InterruptedError{message: doubt + "; " + next, cause: context.Cause(ctx)}
		case lost != nil && api.KindOf(err) == api.KindUnavailable:
			err = &api.UnavailableError{Message: lost.Message + "; " + doubt, Next: next}
		}
		return out, err
	}
}

// An InterruptedError says that a command's answer was not waited for. It wraps the cause of the context's end.
type InterruptedError struct {
	message string
	cause   error
}

func (e *InterruptedError) Error() string { return e.message }
func (e *InterruptedError) Unwrap() error { return e.cause }

// carriesDirectory says whether manifests are compiled.
func carriesDirectory(body ledger.Body) bool {
	switch b := body.(type) {
	case ledger.Propose:
		return b.Directory != nil || b.Promotion != nil
	case ledger.Rebase:
		return true
	case ledger.Revise:
		return b.Directory != nil || b.Promotion != nil
	}
	return false
}

// Diff is what a directory would change.
func (c *Client) Diff(ctx context.Context, directory *ledger.Directory) (out api.Difference, err error) {
	err = c.call(ctx, dirTimeout, http.MethodPost, api.Prefix+"/diff", directory, &out)
	return out, err
}

// Explain is where a resource's value comes from.
func (c *Client) Explain(ctx context.Context, environment, key string) (api.Explanation, error) {
	kind, name, _ := strings.Cut(key, "/")
	return get[api.Explanation](ctx, c, "/environments/"+url.PathEscape(environment)+"/explain/"+url.PathEscape(kind)+"/"+url.PathEscape(name), nil)
}

// Bundle is what the ledger says of environments, of all where none is named.
func (c *Client) Bundle(ctx context.Context, environments []string) (exchange.Bundle, error) {
	return get[exchange.Bundle](ctx, c, "/bundle", url.Values{"env": environments})
}

// Compare is what differs between two environments.
func (c *Client) Compare(ctx context.Context, a, b string) (api.Comparison, error) {
	return get[api.Comparison](ctx, c, "/compare", query("a", a, "b", b))
}

// Impact is what depends on a resource, and where.
func (c *Client) Impact(ctx context.Context, key string) (registry.Impact, error) {
	kind, name, _ := strings.Cut(key, "/")
	return get[registry.Impact](ctx, c, "/impact/"+url.PathEscape(kind)+"/"+url.PathEscape(name), nil)
}

// Fleet is where every environment stands.
func (c *Client) Fleet(ctx context.Context) (fleet.View, error) {
	return get[fleet.View](ctx, c, "/fleet", nil)
}

// Environment is where one environment stands.
func (c *Client) Environment(ctx context.Context, name string) (fleet.Environment, error) {
	return get[fleet.Environment](ctx, c, "/environments/"+url.PathEscape(name), nil)
}

// Resources are an environment's resources at a revision or time; empty is the head.
func (c *Client) Resources(ctx context.Context, environment, at string) ([]fleet.ResourceView, error) {
	return get[[]fleet.ResourceView](ctx, c, "/environments/"+url.PathEscape(environment)+"/resources", query("at", at))
}

// Resource is one of them.
func (c *Client) Resource(ctx context.Context, environment, key, at string) (fleet.ResourceView, error) {
	kind, name, _ := strings.Cut(key, "/")
	return get[fleet.ResourceView](ctx, c, "/environments/"+url.PathEscape(environment)+"/resources/"+url.PathEscape(kind)+"/"+url.PathEscape(name), query("at", at))
}

// Release is one revision of an environment.
func (c *Client) Release(ctx context.Context, environment string, revision uint64) (fleet.ChangeEnvironment, error) {
	return get[fleet.ChangeEnvironment](ctx, c, fmt.Sprintf("/environments/%s/releases/%d", url.PathEscape(environment), revision), nil)
}

// Changes are the changes with a status, or all where it is empty; newest first.
func (c *Client) Changes(ctx context.Context, status string) ([]fleet.Change, error) {
	return get[[]fleet.Change](ctx, c, "/changes", query("status", status))
}

// Change is one change.
func (c *Client) Change(ctx context.Context, id string) (fleet.Change, error) {
	return get[fleet.Change](ctx, c, "/changes/"+url.PathEscape(id), nil)
}

// Terms are what a change's digest is over.
func (c *Client) Terms(ctx context.Context, id string) (ledger.Terms, error) {
	return get[ledger.Terms](ctx, c, "/changes/"+url.PathEscape(id)+"/terms", nil)
}

// History is what was released to an environment, or of a resource, or both; newest first.
func (c *Client) History(ctx context.Context, environment, resource string) ([]fleet.HistoryItem, error) {
	return get[[]fleet.HistoryItem](ctx, c, "/history", query("environment", environment, "resource", resource))
}

// Pins are what an enrolment in an environment pins.
func (c *Client) Pins(ctx context.Context, environment string) (api.Pins, error) {
	return get[api.Pins](ctx, c, "/trust", query("environment", environment))
}

// Credentials are what an enrolled agent shows the bus beside its key.
func (c *Client) Credentials(ctx context.Context, environment, agent string) (api.AgentCredentials, error) {
	return get[api.AgentCredentials](ctx, c, "/environments/"+url.PathEscape(environment)+"/agents/"+url.PathEscape(agent)+"/credentials", nil)
}

// Trust is the trust document with a version, or the newest where it is 0.
func (c *Client) Trust(ctx context.Context, version int) (events.Trust, error) {
	if version == 0 {
		pins, err := c.Pins(ctx, "")
		return pins.Document, err
	}
	return get[events.Trust](ctx, c, "/trust/"+strconv.Itoa(version), nil)
}

// Doctor is everything that the publisher needs.
func (c *Client) Doctor(ctx context.Context) ([]api.Check, error) {
	return get[[]api.Check](ctx, c, "/doctor", nil)
}

// Alarms are what is wrong and whom it was told.
func (c *Client) Alarms(ctx context.Context) (notify.Overview, error) {
	return get[notify.Overview](ctx, c, "/alarms", nil)
}

// Link asks for a link that opens a session in a browser, once; it needs none where Expires is zero.
func (c *Client) Link(ctx context.Context) (out api.Link, err error) {
	err = c.call(ctx, callTimeout, http.MethodPost, api.LinksPath, struct{}{}, &out)
	return out, err
}

// Verify has the publisher read its whole ledger again.
func (c *Client) Verify(ctx context.Context) (out api.Verification, err error) {
	err = c.call(ctx, verifyTimeout, http.MethodPost, api.Prefix+"/ledger/verify", struct{}{}, &out)
	return out, err
}

func query(pairs ...string) url.Values {
	values := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			values.Set(pairs[i], pairs[i+1])
		}
	}
	return values
}

func get[T any](ctx context.Context, c *Client, path string, values url.Values) (out T, err error) {
	path = api.Prefix + path
	if len(values) > 0 {
		path += "?" + values.Encode()
	}
	err = c.call(ctx, callTimeout, http.MethodGet, path, nil, &out)
	return out, err
}

// A lostError is an UnavailableError after the request may have been carried out.
type lostError struct{ *api.UnavailableError }

func (e *lostError) Unwrap() error { return e.UnavailableError }

func (c *Client) call(ctx context.Context, limit time.Duration, method, path string, body, into any) error {
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var payload bytes.Buffer
	if body != nil {
		enc := json.NewEncoder(&payload)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(body); err != nil {
			return fmt.Errorf("write the request: %w", err)
		}
	}
	response, answer, err := c.send(ctx, bounded, method, path, payload.Bytes())
	if err == nil && response.StatusCode == http.StatusUnauthorized && c.reader.learn(response.Header) {
		response, answer, err = c.send(ctx, bounded, method, path, payload.Bytes())
	}
	if err != nil {
		return err
	}
	return c.read(response, answer, into)
}

// send sends a request once and reads the whole answer.
func (c *Client) send(ctx, bounded context.Context, method, path string, payload []byte) (*http.Response, []byte, error) {
	request, err := http.NewRequestWithContext(bounded, method, c.base+path, bytes.NewReader(payload))
	if err != nil {
		return nil, nil, fmt.Errorf("write the request: %w", err)
	}
	if len(payload) > 0 {
		request.Header.Set("Content-Type", "application/json")
	}
	if err := c.reader.sign(request); err != nil {
		return nil, nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, nil, c.failed(ctx, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, nil, c.failed(ctx, err)
	case len(answer) > maxAnswer:
		return nil, nil, fmt.Errorf("the answer of %s has more than %d bytes", c.base, maxAnswer)
	}
	return response, answer, nil
}

// failed says what became of a request without an answer.
func (c *Client) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if unknown, ok := errors.AsType[*net.DNSError](err); ok {
		return &api.UnavailableError{Message: fmt.Sprintf("no publisher can be looked for at %s: the name %s does not resolve on this machine: %s", c.base, unknown.Name, unknown.Err),
			Next: "make the name known here, or name another address that the publisher's certificate holds with --server"}
	}
	if refused, ok := errors.AsType[*net.OpError](err); ok && refused.Op == "dial" {
		return &api.UnavailableError{Message: fmt.Sprintf("no publisher answers at %s: %v", c.base, refused.Err),
			Next: "start one with 'publisher serve' or 'publisher demo', or name another with --server"}
	}
	if distrusts(err) {
		return &api.UnavailableError{Message: fmt.Sprintf("%s and this client do not trust each other: %v", c.base, err),
			Next: "name certificates in the context file or in LOCKSTEP_TLS_CA, LOCKSTEP_TLS_CERT and LOCKSTEP_TLS_KEY"}
	}
	return &lostError{&api.UnavailableError{Message: fmt.Sprintf("the answer of %s was lost: %v", c.base, err), Next: "try again"}}
}

func (c *Client) read(response *http.Response, answer []byte, into any) error {
	media, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if media == "application/problem+json" {
		var p api.Problem
		if err := json.Unmarshal(answer, &p); err == nil && p.Kind != "" {
			return p.Err()
		}
	}
	if response.StatusCode != http.StatusOK || media != "application/json" {
		return &api.UnavailableError{Message: fmt.Sprintf("%s answers %s, which is no answer of a publisher", c.base, response.Status),
			Next: "look at what runs there, or name another with --server"}
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("read the answer of %s: %w: use a client of the publisher's version", c.base, err)
	}
	return nil
}
