package main

import (
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/notify"
	"github.com/lockstep-dev/lockstep/internal/webhook"
)

func TestThePageOnNotificationsHasAFileThatCanBeReadAndEveryRule(t *testing.T) {
	page := string(readFile(t, "../../docs/notifications.md"))
	_, rest, _ := strings.Cut(page, "```yaml\n")
	example, _, found := strings.Cut(rest, "```")
	if _, err := notify.ParseConfig("notifications.md", []byte(example)); err != nil || !found {
		t.Error(err)
	}
	for _, c := range [][2]string{{`'{"a":1}'`, `{"a":1}`}, {`'{"a":2}'`, `{"a":2}`}} { // what openssl says there is what is sent
		_, rest, shown := strings.Cut(page, "$ printf '%s.%s' 1795262400 "+c[0]+" | openssl dgst -sha256 -hmac s3cret -r\n")
		want := strings.TrimPrefix(webhook.Sign([]byte("s3cret"), []byte(c[1]), time.Unix(1795262400, 0)), "t=1795262400,v1=")
		if !shown || !strings.HasPrefix(rest, want+" *stdin\n") {
			t.Errorf("the signature of %s is not shown as %s", c[1], want)
		}
	}
	for _, rule := range notify.Rules {
		if !strings.Contains(page, "\n| `"+string(rule)+"` |") {
			t.Errorf("the rule %s is not explained", rule)
		}
	}
}
