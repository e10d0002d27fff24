package exchange

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// Refer puts a reference to a secret in the place of what stands at a path (JSON pointer) of a resource's value. The reference is to
// an environment variable of the agent, which is named after the resource and the path.
func Refer(key string, value json.RawMessage, path string) (out json.RawMessage, reference string, err error) {
	_, name, _ := strings.Cut(key, "/")
	reference = "env://" + upperSnake(name+unescape.Replace(path))
	if out, err = replaceAt(value, path, json.RawMessage(`{"$secret":{"ref":"`+reference+`"}}`)); err != nil {
		return nil, "", err
	}
	out, err = events.Canonical(out)
	return out, reference, err
}

func replaceAt(value json.RawMessage, path string, with json.RawMessage) (json.RawMessage, error) {
	if path == "" {
		return with, nil
	}
	segment, rest, deeper := strings.Cut(path[1:], "/")
	if deeper {
		rest = "/" + rest
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(value, &members) == nil && members != nil {
		name := unescape.Replace(segment)
		inner, err := replaceAt(members[name], rest, with)
		if err != nil {
			return nil, err
		}
		members[name] = inner
		return events.Encode(members)
	}
	var items []json.RawMessage
	at, err := strconv.Atoi(segment)
	if err != nil || json.Unmarshal(value, &items) != nil || at < 0 || at >= len(items) {
		return nil, fmt.Errorf("there is nothing at %s", path)
	}
	if items[at], err = replaceAt(items[at], rest, with); err != nil {
		return nil, err
	}
	return events.Encode(items)
}
