package api

import (
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
)

func TestEveryRefusalOfTheAuthorityHasAStatus(t *testing.T) {
	for _, refusal := range []*authority.Error{
		authority.ErrInvalidField, authority.ErrNotFound, authority.ErrVersionMismatch, authority.ErrConfirmationRequired,
		authority.ErrAllowListRequired, authority.ErrRotationInProgress, authority.ErrAlreadyConfirmed, authority.ErrRetryInProgress,
		authority.ErrManagedByConfig, authority.ErrForbidden, authority.ErrInvalidState,
	} {
		p, hidden := problemFrom(fmt.Errorf("token.edit: %w", refusal), inBody)
		require.NoError(t, hidden)
		require.Equal(t, refusal.Code, p.Code)
		require.Less(t, p.Status, 500)
	}
}

func TestCodesAreStatusesOfErrors(t *testing.T) {
	for code, m := range problems {
		require.Regexp(t, `^[a-z]+(_[a-z0-9]+)*$`, code)
		require.GreaterOrEqual(t, m.status, 400)
		require.NotEmpty(t, http.StatusText(m.status))
		require.NotEmpty(t, m.title)
	}
}

// huma writes these for mistakes that the checks before it let through, if it
// ever does: they must be as free of values as the others.
func TestWhatHumaSaysIsScrubbed(t *testing.T) {
	detail := func(location, message string) *huma.ErrorDetail {
		return &huma.ErrorDetail{Location: location, Message: message, Value: "M4rk"}
	}
	for _, row := range []struct {
		err  huma.StatusError
		want FieldProblem
	}{
		{huma.Error422UnprocessableEntity("M4rk", detail("body.a.b[3].c", "expected string")), FieldProblem{Pointer: "/a/b/3/c", Detail: "must be a string"}},
		{huma.Error422UnprocessableEntity("M4rk", detail("body", "expected required property name to be present")), FieldProblem{Pointer: "/name", Detail: "is required"}},
		{huma.Error422UnprocessableEntity("M4rk", detail("body.M4rk M4rk", "unexpected property")), FieldProblem{Pointer: "/(name not repeated)", Detail: "is not a field of this request"}},
		{huma.Error422UnprocessableEntity("M4rk", detail("query.limit", "expected number <= 200")), FieldProblem{Parameter: "limit", Detail: "must be at most 200"}},
		{huma.Error422UnprocessableEntity("M4rk", detail("header.If-Match", "required header parameter is missing")), FieldProblem{Header: "If-Match", Detail: "is required"}},
		{huma.Error422UnprocessableEntity("M4rk", detail("body.x", "expected string to be RFC 5322 email: mail: M4rk")), FieldProblem{Pointer: "/x", Detail: "is not valid"}},
		{huma.Error422UnprocessableEntity("M4rk", detail("body.x", `expected value to be one of "M4rk"`)), FieldProblem{Pointer: "/x", Detail: "is not valid"}},
		{huma.Error422UnprocessableEntity("M4rk", errors.New("json: cannot unmarshal M4rk")), FieldProblem{Detail: "is not valid"}},
		{huma.Error422UnprocessableEntity("M4rk", nil), FieldProblem{Detail: "is not valid"}},
	} {
		p := scrub(row.err)
		require.Equal(t, []FieldProblem{row.want}, p.Errors)
		require.Equal(t, "invalid_field", p.Code)
		require.NotContains(t, fmt.Sprintf("%+v", p), "M4rk")
	}
	for status, code := range map[int]string{400: "invalid_request", 406: "invalid_request", 413: "body_too_large", 415: "unsupported_media_type", 422: "invalid_request", 500: "internal_error", 503: "internal_error"} {
		p := scrub(huma.NewError(status, "M4rk"))
		require.Equal(t, code, p.Code)
		require.NotContains(t, fmt.Sprintf("%+v", p), "M4rk")
		// Another program in this process may have put its own form of errors into huma.
		p = scrub(foreign(status))
		require.NotContains(t, fmt.Sprintf("%+v", p), "M4rk")
	}
}

type foreign int

func (f foreign) GetStatus() int { return int(f) }
func (f foreign) Error() string  { return "M4rk" }
