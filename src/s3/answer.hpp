#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "krul/core/error.hpp"

namespace krul::s3 {

/// What a server answered.
struct Answer {
  long status = 0;
  std::string etag;                     ///< empty where there is none that may be sent back
  std::string mark;                     ///< that a writer of krul's gave the object
  std::string region;                   ///< of the bucket, where the server says so
  std::optional<std::uint64_t> length;  ///< bytes of what follows
  std::optional<std::uint64_t> total;   ///< bytes of the object of which a range follows
  std::optional<std::int64_t> unix_s;   ///< the server's time
  std::vector<std::byte> body;          ///< of a success, where nobody else took it
  std::string code, message;            ///< of a failure, as S3 names it

  [[nodiscard]] bool is_success() const noexcept { return status >= 200 && status < 300; }
};

/// Takes one line of the head of an answer; the status line begins a new one.
void take_header(Answer& answer, std::string_view line);

/// Takes code, message and region from the body of a failure, if it is S3's; else leaves them empty.
void take_error(Answer& answer, const std::vector<std::byte>& body);

/// Whether the same request may well succeed a little later.
[[nodiscard]] bool passes(const Answer& answer);

/// What to tell of an answer that is no success.
struct Told {
  std::string action;  ///< "read object ..."
  std::string bucket;
  std::string server;
  std::int64_t clock_ahead_s = 0;  ///< of this machine, before the server's
  unsigned attempts = 1;
};
[[nodiscard]] Error describe(const Answer& answer, const Told& told);

/// The error of a success whose answer is none of S3's.
[[nodiscard]] tl::unexpected<Error> strange(const std::string& action, const std::string& what);

/// Whether an ETag may be sent back to the server, in a header or in XML: nothing in it may end either.
[[nodiscard]] bool is_etag(std::string_view etag);

}  // namespace krul::s3
