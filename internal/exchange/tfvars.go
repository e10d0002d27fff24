package exchange

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

var notInIdentifier = regexp.MustCompile(`[^A-Za-z0-9_-]`)

// writeTfvars writes variables as Terraform reads them. References to secrets mean nothing to it, and are left out.
func writeTfvars(values Values) (file []byte, leftOut []string, err error) {
	var b bytes.Buffer
	written := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if bytes.Contains(values[key], []byte(`"$secret"`)) {
			leftOut = append(leftOut, key)
			continue
		}
		name := identifier(key)
		if other, twice := written[name]; twice {
			return nil, nil, fmt.Errorf("%s and %s would both be %s in Terraform: export them as json", other, key, name)
		}
		written[name] = key
		b.WriteString(name + " = ")
		if err := writeHCL(&b, values[key], ""); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", key, err)
		}
		b.WriteByte('\n')
	}
	return b.Bytes(), leftOut, nil
}

// identifier is a variable's name as HCL has names.
func identifier(key string) string {
	name := notInIdentifier.ReplaceAllString(strings.TrimPrefix(key, "variable/"), "_")
	if name[0] >= '0' && name[0] <= '9' {
		return "_" + name
	}
	return name
}

// writeHCL writes a JSON value as an expression.
func writeHCL(b *bytes.Buffer, value json.RawMessage, indent string) error {
	switch value[0] {
	case '"':
		var text string
		if err := json.Unmarshal(value, &text); err != nil {
			return err
		}
		b.WriteString(quoteHCL(text))
	case '[':
		var items []json.RawMessage
		if err := json.Unmarshal(value, &items); err != nil {
			return err
		}
		b.WriteByte('[')
		for i, item := range items {
			if i > 0 {
				b.WriteString(", ")
			}
			if err := writeHCL(b, item, indent); err != nil {
				return err
			}
		}
		b.WriteByte(']')
	case '{':
		var members map[string]json.RawMessage
		if err := json.Unmarshal(value, &members); err != nil {
			return err
		}
		b.WriteByte('{')
		for _, name := range slices.Sorted(maps.Keys(members)) {
			b.WriteString("\n" + indent + "  " + quoteHCL(name) + " = ")
			if err := writeHCL(b, members[name], indent+"  "); err != nil {
				return err
			}
		}
		if len(members) > 0 {
			b.WriteString("\n" + indent)
		}
		b.WriteByte('}')
	default: // numbers, true, false and null are written alike
		b.Write(value)
	}
	return nil
}

// quoteHCL writes a text in quotes, on one line: what a heredoc would change (line ends, indentation) stays as it is. Sequences that
// would begin a template are escaped.
func quoteHCL(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	before := ' '
	for i, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteString(`\` + string(r))
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case (r == '$' || r == '%') && strings.HasPrefix(text[i+1:], "{"):
			if before == r { // a third one would not be read as an escape
				fmt.Fprintf(&b, `\u%04x`, r)
			} else {
				b.WriteString(string(r) + string(r))
			}
		case r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029 || r == 0xfeff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
		before = r
	}
	b.WriteByte('"')
	return b.String()
}
