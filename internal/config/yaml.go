package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// YAML is a JSON text as YAML in block style, members in their order. It is read back as the same values by every reader of YAML 1.1
// and 1.2, whatever characters the texts hold.
func YAML(text []byte) ([]byte, error) {
	w := yamlWriter{in: json.NewDecoder(bytes.NewReader(text))}
	w.in.UseNumber()
	if err := w.value("", "\n"); err != nil {
		return nil, fmt.Errorf("write YAML: %w", err)
	}
	if _, err := w.in.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("write YAML: there is more than one JSON value")
	}
	return bytes.TrimPrefix(w.out.Bytes(), []byte("\n")), nil
}

type yamlWriter struct {
	in  *json.Decoder
	out bytes.Buffer
}

// value writes the next value of the input. A mapping begins with lead; the items of a list and the members after the first begin on
// lines of their own, with indent.
func (w *yamlWriter) value(indent, lead string) error {
	token, err := w.in.Token()
	if err != nil {
		return err
	}
	switch t := token.(type) {
	case json.Delim:
		if t == '{' {
			return w.mapping(indent, lead)
		}
		return w.list(indent)
	case string:
		w.scalar(yamlText(t))
	case json.Number:
		w.scalar(t.String())
	default: // null and booleans
		b, err := json.Marshal(t)
		if err != nil {
			return err
		}
		w.scalar(string(b))
	}
	return nil
}

func (w *yamlWriter) scalar(s string) {
	if w.out.Len() > 0 && !bytes.HasSuffix(w.out.Bytes(), []byte(" ")) {
		w.out.WriteByte(' ')
	}
	w.out.WriteString(s + "\n")
}

func (w *yamlWriter) mapping(indent, lead string) error {
	if !w.in.More() {
		w.scalar("{}")
	} else {
		w.out.WriteString(lead)
	}
	for first := true; w.in.More(); first = false {
		key, err := w.in.Token()
		if err != nil {
			return err
		}
		if !first || lead == "\n" {
			w.out.WriteString(indent)
		}
		w.out.WriteString(yamlText(key.(string)) + ":") // the decoder demands a text there
		if err := w.value(indent+"  ", "\n"); err != nil {
			return err
		}
	}
	_, err := w.in.Token()
	return err
}

func (w *yamlWriter) list(indent string) error {
	if !w.in.More() {
		w.scalar("[]")
	} else {
		w.out.WriteByte('\n')
	}
	for w.in.More() {
		w.out.WriteString(indent + "-")
		if err := w.value(indent+"  ", " "); err != nil {
			return err
		}
	}
	_, err := w.in.Token()
	return err
}

var (
	plainText = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_./-]*( [A-Za-z0-9_./-]+)*$`)
	yamlWords = []string{"true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"}
)

// yamlText is a text plain where nothing else can be read into it, and otherwise in double quotes. Go's escapes are YAML's.
func yamlText(s string) string {
	if plainText.MatchString(s) && !slices.Contains(yamlWords, strings.ToLower(s)) {
		return s
	}
	return strconv.Quote(s)
}
