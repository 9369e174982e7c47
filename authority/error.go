package authority

import (
	"errors"

	"github.com/sallyport/sallyport/token"
)

// Error is a refusal with a stable code. Detail is for people and never repeats
// a value of the input; Err, if set, is for logs only.
type Error struct {
	Code   string // "token_limit_reached"
	Field  string // the field of an invalid_field
	Detail string
	Err    error
	// Candidates are what could be given up, with token_limit_reached.
	Candidates []Candidate
}

func (e *Error) Error() string {
	if e.Field != "" {
		return e.Code + ": " + e.Field + ": " + e.Detail
	}
	return e.Code + ": " + e.Detail
}

func (e *Error) Unwrap() error { return e.Err }

// Is makes errors.Is compare codes.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && t.Field == "" && t.Detail == ""
}

// The codes of refusals; use them with errors.Is.
var (
	ErrInvalidField         = &Error{Code: "invalid_field"}
	ErrNotFound             = &Error{Code: "not_found"}
	ErrVersionMismatch      = &Error{Code: "version_mismatch"}
	ErrConfirmationRequired = &Error{Code: "confirmation_required"}
	ErrAllowListRequired    = &Error{Code: "ip_allowlist_required"}
	ErrRotationInProgress   = &Error{Code: "rotation_in_progress"}
	ErrAlreadyConfirmed     = &Error{Code: "already_confirmed"}
	// ErrRetryInProgress: another request with the same Idempotency-Key is still
	// being answered.
	ErrRetryInProgress = &Error{Code: "retry_in_progress"}
	ErrManagedByConfig = &Error{Code: "managed_by_config"}
	ErrForbidden       = &Error{Code: "forbidden"}
	// ErrExceedsGrantor: it would give more than whoever asks holds.
	ErrExceedsGrantor = &Error{Code: "exceeds_grantor"}
	// ErrStepUpRequired: the verb takes a one-time code.
	ErrStepUpRequired = &Error{Code: "step_up_required"}
	// ErrInvalidOTP: the code is wrong, or too many were.
	ErrInvalidOTP = &Error{Code: "invalid_otp"}
	// ErrCodeUsed: the code was right, and used before.
	ErrCodeUsed = &Error{Code: "code_used"}
	// ErrTokenLimitReached: one more valid secret would exceed a cap of the policy.
	ErrTokenLimitReached = &Error{Code: "token_limit_reached"}
	// ErrInvalidState: the verb does not fit the token's state (enabling a revoked token).
	ErrInvalidState = &Error{Code: "invalid_state"}
)

// refuse makes a refusal with the code of one of the sentinels.
func refuse(code *Error, detail string) error {
	return &Error{Code: code.Code, Detail: detail}
}

// invalid refuses a field. The problem says how to mend it and never repeats the value.
func invalid(field, problem string) error {
	return &Error{Code: ErrInvalidField.Code, Field: field, Detail: problem}
}

// asInvalid turns the token package's complaint about an input into a refusal.
// It is called only on errors about what was asked: the same type about what is
// stored means a damaged store, and must not be blamed on the caller.
func asInvalid(err error) error {
	var f *token.FieldError
	if errors.As(err, &f) {
		return invalid(f.Field, f.Problem)
	}
	return err
}
