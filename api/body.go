package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
)

// The limits of request bodies.
const (
	maxBody     = 64 << 10
	maxReport   = 1 << 20 // of a route that takes a list of others' findings
	maxBodyTime = 10 * time.Second
	maxDepth    = 16
)

// longAgo as a deadline ends reading now.
var longAgo = time.Unix(1, 0)

// readBody reads a request's body whole, so that nothing is done for a request
// that turns out to be too large or cut short.
func readBody(w http.ResponseWriter, r *http.Request, most int64, within time.Duration) ([]byte, *Problem) {
	if r.Body == nil {
		return nil, nil
	}
	// A body that trickles in must not hold a connection for ever. Writers without
	// deadlines have no connection.
	connection := http.NewResponseController(w)
	late := time.AfterFunc(within, func() { _ = connection.SetReadDeadline(longAgo) })
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if !late.Stop() && err == nil {
		// It came at the last moment. Otherwise the deadline stays, or the server
		// would go on to wait for the rest.
		_ = connection.SetReadDeadline(time.Time{})
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, newProblem(codeBodyTooLarge, fmt.Sprintf("A request body has at most %d KiB here.", most>>10))
	case err != nil:
		return nil, newProblem(codeInvalidRequest, "The request body was not complete, or took too long to come.")
	}
	return data, nil
}

// checkMediaType accepts the one media type of a route, in UTF-8 and not encoded.
// Where anything is changed that is JSON: a form or text/plain is what a browser can
// send across sites without asking first (D5).
func checkMediaType(h http.Header, accepted string) *Problem {
	values := h.Values("Content-Type")
	if len(values) == 1 && h.Get("Content-Encoding") == "" {
		media, params, err := mime.ParseMediaType(values[0])
		charset, other := params["charset"], len(params)
		if charset != "" {
			other--
		}
		if err == nil && media == accepted && other == 0 &&
			(charset == "" || strings.EqualFold(charset, "utf-8")) {
			return nil
		}
	}
	return newProblem(codeUnsupportedMediaType, "Send the body as Content-Type: "+accepted+", in UTF-8 and not compressed.")
}

// checkJSON accepts one JSON object, or the array that the route takes instead, that
// can be read in one way only. The
// decoder that comes after is lenient: it takes the last of two equal keys,
// matches keys in any case, takes null for absent, and replaces what is no
// Unicode; each would let what one reader checked differ from what another does.
//
// open: objects may have members that are not known. Names that differ from a known one
// in case alone are refused all the same.
func checkJSON(data []byte, registry huma.Registry, schema *huma.Schema, open bool) *Problem {
	if !utf8.Valid(data) {
		return newProblem(codeInvalidRequest, "The request body is not UTF-8.")
	}
	if !json.Valid(data) {
		return notJSON()
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	c := &jsonCheck{decoder: d, registry: registry, open: open}
	c.value("", schema, 1)
	if c.problem != nil {
		return c.problem
	}
	if len(c.fields) > 0 {
		return fieldProblem(c.fields...)
	}
	return nil
}

// jsonCheck walks a document next to its schema. problem stops it; fields do not.
type jsonCheck struct {
	decoder  *json.Decoder
	registry huma.Registry
	open     bool
	fields   []FieldProblem
	problem  *Problem
}

func (c *jsonCheck) field(at, detail string) {
	if len(c.fields) < maxFieldProblems {
		c.fields = append(c.fields, FieldProblem{Pointer: at, Detail: detail})
	}
}

// value reads one value. schema is nil for what no schema describes.
func (c *jsonCheck) value(at string, schema *huma.Schema, depth int) {
	t, err := c.decoder.Token()
	if err != nil {
		c.problem = notJSON()
		return
	}
	for schema != nil && schema.Ref != "" {
		schema = c.registry.SchemaFromRef(schema.Ref)
	}
	if wanted, name := topOf(schema); depth == 1 && t != wanted {
		c.problem = newProblem(codeInvalidRequest, "The request body must be a JSON "+name+".")
		return
	}
	switch v := t.(type) {
	case json.Delim:
		if depth > maxDepth {
			c.problem = newProblem(codeInvalidRequest, "The request body is nested too deeply.")
			return
		}
		if v == '{' {
			c.object(at, schema, depth)
		} else {
			c.array(at, schema, depth)
		}
	case nil:
		if schema != nil && !schema.Nullable {
			c.field(at, "must not be null; leave the field out instead")
		}
	case string:
		// Postgres can not store it, and C code ends at it.
		if strings.ContainsRune(v, 0) {
			c.field(at, "must not contain the NUL character")
		}
		if schema != nil && schema.Format == "date-time" {
			if _, wrong := parseTime(v); wrong != "" {
				c.field(at, wrong)
			}
		}
	}
}

// topOf says what a document of a schema begins with.
func topOf(schema *huma.Schema) (json.Token, string) {
	if schema != nil && schema.Type == huma.TypeArray {
		return json.Delim('['), "array"
	}
	return json.Delim('{'), "object"
}

// differsInCase says whether the decoder would take a member for a known one.
func differsInCase(schema *huma.Schema, key string) bool {
	for name := range schema.Properties {
		if strings.EqualFold(name, key) {
			return true
		}
	}
	return false
}

func (c *jsonCheck) object(at string, schema *huma.Schema, depth int) {
	seen := map[string]bool{}
	for c.decoder.More() {
		t, err := c.decoder.Token()
		key, ok := t.(string)
		if err != nil || !ok {
			c.problem = notJSON()
			return
		}
		here := pointer(at, plainName(key))
		if seen[key] {
			c.problem = newProblem(codeInvalidRequest, "A field of the request body is given twice: "+strings.TrimPrefix(here, "/"))
			return
		}
		seen[key] = true
		var of *huma.Schema
		if schema != nil {
			if of = schema.Properties[key]; of == nil {
				of, _ = schema.AdditionalProperties.(*huma.Schema) // of a map
			}
			if of == nil && (!c.open || differsInCase(schema, key)) {
				c.field(here, unknownField)
			}
		}
		if c.value(here, of, depth+1); c.problem != nil {
			return
		}
	}
	c.end()
}

func (c *jsonCheck) array(at string, schema *huma.Schema, depth int) {
	var of *huma.Schema
	if schema != nil {
		of = schema.Items
	}
	for i := 0; c.decoder.More(); i++ {
		if c.value(pointer(at, strconv.Itoa(i)), of, depth+1); c.problem != nil {
			return
		}
	}
	c.end()
}

// end reads the closing delimiter.
func (c *jsonCheck) end() {
	if _, err := c.decoder.Token(); err != nil {
		c.problem = notJSON()
	}
}

// notJSON says no more: the parser's own words quote what they stumbled over.
func notJSON() *Problem {
	return newProblem(codeInvalidRequest, "The request body is not one valid JSON document.")
}

// valueOf reads an optional body.
func valueOf[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
