#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <type_traits>
#include <utility>

namespace krul {

/// Stable codes for what can go wrong outside the program: files, stores, networks, foreign state.
enum class ErrorCode : std::uint8_t {
  invalid_argument,     ///< what a user typed or passed in cannot be meant
  not_found,            ///< the file, object, conversation or chunk is not there
  corrupt,              ///< bytes are there but are not what was written
  truncated,            ///< fewer bytes than promised
  identity_mismatch,    ///< saved by another model, tokenizer or cache type
  unsupported,          ///< a format, type or architecture that this build does not know
  unsupported_version,  ///< written by a newer, incompatible version
  too_large,            ///< a count or length above its cap, refused before allocation
  busy,                 ///< another process holds it
  no_space,             ///< the medium is full
  io,                   ///< the operating system refused
  deadline,             ///< took longer than allowed
  cancelled,            ///< the caller gave up
  backend,              ///< the model backend failed
  medium,               ///< what was written cannot be read any more: the medium failed
};

/// The code's spelling, for machines: "corrupt", "no_space", ...
[[nodiscard]] constexpr std::string_view name(ErrorCode code) noexcept {
  constexpr std::string_view names[] = {"invalid_argument",
                                        "not_found",
                                        "corrupt",
                                        "truncated",
                                        "identity_mismatch",
                                        "unsupported",
                                        "unsupported_version",
                                        "too_large",
                                        "busy",
                                        "no_space",
                                        "io",
                                        "deadline",
                                        "cancelled",
                                        "backend",
                                        "medium"};
  return names[static_cast<std::size_t>(code)];
}

/// One failure: a code for programs, a sentence for people that says what to do.
struct Error {
  ErrorCode code = ErrorCode::io;
  std::string message;
  friend bool operator==(const Error&, const Error&) = default;
};

/// A value, or why there is none. Used wherever the cause lies outside the program.
template <class T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;

/// `return fail(ErrorCode::corrupt, "...")` from any function that returns a Result.
[[nodiscard]] inline tl::unexpected<Error> fail(ErrorCode code, std::string message) {
  return tl::unexpected<Error>(Error{code, std::move(message)});
}

/// `if (!result) return propagate(result);`
template <class T>
[[nodiscard]] tl::unexpected<Error> propagate(const Result<T>& result) {
  return tl::unexpected<Error>(result.error());
}

/// An error as an exception: what() is its sentence.
struct ResultError : std::runtime_error {
  explicit ResultError(Error why) : std::runtime_error(why.message), error(std::move(why)) {}
  Error error;
};

/// The value of a result, for programs that end at the first error.
/// @throws ResultError if there is none
template <class T>
T or_throw(Result<T> result) {
  if (!result) throw ResultError(std::move(result.error()));
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

/// A caller's mistake: fix the call. Never caused by data.
struct PreconditionError : std::logic_error {
  using std::logic_error::logic_error;
};

/// @throws PreconditionError with `message` unless `condition` holds
inline void expects(bool condition, const char* message) {
  if (!condition) [[unlikely]]
    throw PreconditionError(message);
}

}  // namespace krul
