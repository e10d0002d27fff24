package exec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

const protocol = 1

func observeRequest(keys []string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "{\n\"protocol\":%d,\n\"verb\":\"observe\",\n", protocol)
	lines(&b, `"keys":[`, quoted(keys), "]")
	b.WriteString("\n}\n")
	return b.Bytes()
}

func applyRequest(values connector.Values) []byte {
	var deleted, set []string
	for _, k := range values.Keys() {
		if values[k] == nil {
			deleted = append(deleted, k)
		} else {
			set = append(set, fmt.Sprintf("%q:%s", k, values[k]))
		}
	}
	var body, b bytes.Buffer
	lines(&body, `"delete":[`, quoted(deleted), "]")
	body.WriteString(",\n")
	lines(&body, `"set":{`, set, "}")
	fmt.Fprintf(&b, "{\n\"protocol\":%d,\n\"verb\":\"apply\",\n\"idempotencyKey\":%q,\n", protocol, connector.Digest(body.Bytes()))
	b.Write(body.Bytes())
	b.WriteString("\n}\n")
	return b.Bytes()
}

// lines writes a list or an object with one item a line.
func lines(b *bytes.Buffer, open string, items []string, end string) {
	b.WriteString(open + "\n")
	for i, item := range items {
		b.WriteString(item)
		if i < len(items)-1 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
	}
	b.WriteString(end)
}

func quoted(keys []string) []string {
	list := make([]string, len(keys))
	for i, k := range keys {
		list[i] = `"` + k + `"` // a resource's key has no character that JSON would escape
	}
	return list
}

// readAnswer reads an object strictly: one value, no key twice.
func readAnswer(answer []byte) (map[string]json.RawMessage, error) {
	var members map[string]json.RawMessage
	if events.CheckJSON(answer) != nil {
		return nil, errors.New("it is not one JSON value that means the same everywhere")
	}
	if json.Unmarshal(answer, &members) != nil || members == nil {
		return nil, errors.New("it is not an object")
	}
	return members, nil
}

// readValues reads the answer to observe: values of asked keys only.
func readValues(answer []byte, asked []string) (connector.Values, error) {
	members, err := readAnswer(answer)
	if err != nil {
		return nil, err
	}
	var read map[string]json.RawMessage
	if json.Unmarshal(members["values"], &read) != nil || read == nil {
		return nil, errors.New(`"values" is not an object`)
	}
	allowed := make(map[string]bool, len(asked))
	for _, k := range asked {
		allowed[k] = true
	}
	values := make(connector.Values, len(read))
	for k, v := range read {
		if !allowed[k] {
			return nil, fmt.Errorf("%.200q was not asked for", k)
		}
		if values[k], err = events.Canonical(v); err != nil {
			return nil, fmt.Errorf("the value of %s is not canonical JSON", k)
		}
	}
	return values, nil
}

// readDone reads the answer to apply.
func readDone(answer []byte) error {
	if len(bytes.TrimSpace(answer)) == 0 {
		return nil
	}
	_, err := readAnswer(answer)
	return err
}
