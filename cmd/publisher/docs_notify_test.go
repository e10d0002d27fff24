package main

import (
	"strings"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/notify"
)

func TestThePageOnNotificationsHasAFileThatCanBeReadAndEveryRule(t *testing.T) {
	page := string(readFile(t, "../../docs/notifications.md"))
	_, rest, _ := strings.Cut(page, "```yaml\n")
	example, _, found := strings.Cut(rest, "```")
	if _, err := notify.ParseConfig("notifications.md", []byte(example)); err != nil || !found {
		t.Error(err)
	}
	for _, rule := range notify.Rules {
		if !strings.Contains(page, "\n| `"+string(rule)+"` |") {
			t.Errorf("the rule %s is not explained", rule)
		}
	}
}
