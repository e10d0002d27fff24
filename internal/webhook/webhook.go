// Package webhook sends one HTTP request with a signature and says what came of it.
//
// Guarantees: redirections are not followed; an error never holds the address, which may be a secret, nor what the other side wrote
// beyond its status; ErrRefused tells what trying again will not mend from what it may, and After for how long the other side asks to be
// left alone. It tries once: who sends again, and when, is its caller's.
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// SignatureHeader is "t=UNIX,v1=HEX": HEX is HMAC-SHA256, under the secret, of UNIX, a full stop and the body.
const SignatureHeader = "Lockstep-Webhook-Signature"

// timeout bounds one request.
const timeout = 10 * time.Second

// ErrRefused says that the other side does not want it: trying again is of no use.
var ErrRefused = errors.New("refused")

// A busy is an answer that asks to be left alone for some time.
type busy struct {
	error
	after time.Duration
}

func (b *busy) Unwrap() error { return b.error }

// After is for how long the other side asked to be left alone; 0 where it did not say.
func After(err error) time.Duration {
	if b, ok := errors.AsType[*busy](err); ok {
		return b.after
	}
	return 0
}

// retryAfter reads the header Retry-After: seconds, or a date.
func retryAfter(text string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// A Sender sends. Its zero value is not for use.
type Sender struct{ client *http.Client }

// New is a sender.
func New() *Sender {
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Sender{client: &http.Client{Timeout: timeout, CheckRedirect: stay, Transport: http.DefaultTransport.(*http.Transport).Clone()}}
}

// Close ends connections that are kept for the next request.
func (s *Sender) Close() { s.client.CloseIdleConnections() }

// Post sends a body, signed where there is a secret.
func (s *Sender) Post(ctx context.Context, address, contentType string, body, secret []byte, now time.Time) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("the address cannot be used: %w", ErrRefused)
	}
	request.Header.Set("Content-Type", contentType)
	request.Header.Set("User-Agent", "lockstep")
	if len(secret) > 0 {
		request.Header.Set(SignatureHeader, Sign(secret, body, now))
	}
	answer, err := s.client.Do(request)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err // without the address
		}
		return fmt.Errorf("not sent: %w", err)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 64<<10)) // so that the connection can be used again
	_ = answer.Body.Close()
	switch code := answer.StatusCode; {
	case code >= 200 && code < 300:
		return nil
	case code >= 300 && code < 500 && code != http.StatusRequestTimeout && code != http.StatusTooManyRequests && code != http.StatusTooEarly:
		return fmt.Errorf("%w: answered %d %s", ErrRefused, code, http.StatusText(code))
	default:
		err = fmt.Errorf("answered %d %s", code, http.StatusText(code))
		if after := retryAfter(answer.Header.Get("Retry-After"), now); after > 0 {
			err = &busy{err, after}
		}
		return err
	}
}

// Sign is the signature of a body at a time.
func Sign(secret, body []byte, now time.Time) string {
	stamp := strconv.FormatInt(now.Unix(), 10)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(stamp + "."))
	mac.Write(body)
	return "t=" + stamp + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}
