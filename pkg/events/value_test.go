package events_test

import (
	"strings"
	"testing"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

func TestSecretsAreReferencesHoweverDeepTheyLie(t *testing.T) {
	const token = "hunter2"
	for value, ok := range map[string]bool{
		`{"$secret":{"ref":"env://CRM"}}`:                                 true,
		`{"$secret":{"ref":"file:///run/crm"}}`:                           true,
		`{"a":[1,{"b":{"$secret":{"ref":"env://CRM"}}}]}`:                 true,
		`{"a":"$secret"}`:                                                 true,
		`"$secret"`:                                                       true,
		`{"$secret":"hunter2"}`:                                           false,
		`{"$secret":null}`:                                                false,
		`{"$secret":{"ref":"hunter2"}}`:                                   false,
		`{"$secret":{"ref":"https://hunter2"}}`:                           false,
		`{"$secret":{"ref":"env://"}}`:                                    false,
		`{"$secret":{"ref":"env://CRM","value":"hunter2"}}`:               false,
		`{"$secret":{"ref":"env://CRM"},"beside":1}`:                      false,
		`{"a":{"$secret":"hunter2"}}`:                                     false,
		`[[{"a":[{"$secret":{"ref":"hunter2"}}]}]]`:                       false,
		`{"a":{"$secret":{"ref":"env://A"}},"b":{"$secret":["hunter2"]}}`: false,
	} {
		err := events.CheckValue("document/crm", []byte(value))
		if (err == nil) != ok {
			t.Errorf("%s: %v", value, err)
		}
		if err != nil && strings.Contains(err.Error(), token) {
			t.Errorf("%s: the error tells the secret: %v", value, err)
		}
	}
}

func TestASecretIsNothingButAReferenceAndNullIsNoValue(t *testing.T) {
	for _, c := range []struct{ key, value string }{
		{"secret/crm", `"hunter2"`}, {"secret/crm", `{"token":{"$secret":{"ref":"env://CRM"}}}`}, {"secret/crm", `null`}, {"variable/x", `null`},
	} {
		if err := events.CheckValue(c.key, []byte(c.value)); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s = %s: %v", c.key, c.value, err)
		}
	}
}
