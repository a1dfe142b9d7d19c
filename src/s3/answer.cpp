#include "answer.hpp"

#include <curl/curl.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "krul/core/escaped.hpp"
#include "xml.hpp"

namespace krul::s3 {
namespace {

constexpr std::size_t longest_value = 1024;  // of a header that is kept

std::string lower(std::string_view text) {
  std::string lowered(text);
  for (char& c : lowered)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return lowered;
}

std::optional<std::uint64_t> number(std::string_view digits) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

template <std::size_t N>
bool is_one_of(const std::string& code, const std::array<std::string_view, N>& codes) {
  return std::find(codes.begin(), codes.end(), code) != codes.end();
}

Error error_of(ErrorCode code, std::string message) {
  return {code, std::move(message)};
}

}  // namespace

void take_header(Answer& answer, std::string_view line) {
  if (line.starts_with("HTTP/")) {
    answer = {};
    const std::size_t blank = std::min(line.find(' '), line.size());
    answer.status = static_cast<long>(number(line.substr(std::min(blank + 1, line.size()), 3)).value_or(0));
    return;
  }
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos) return;
  std::string_view value = line.substr(colon + 1);
  constexpr std::string_view blank = " \t\r\n";
  value.remove_prefix(std::min(value.find_first_not_of(blank), value.size()));
  value = value.substr(0, value.find_last_not_of(blank) + 1);
  if (value.size() > longest_value) return;
  const std::string name = lower(line.substr(0, colon));
  if (name == "etag") {
    answer.etag = is_etag(value) ? value : "";
  } else if (name == "content-length") {
    answer.length = number(value);
  } else if (name == "content-range") {
    const std::size_t slash = value.rfind('/');
    if (slash != std::string_view::npos) answer.total = number(value.substr(slash + 1));
  } else if (name == "date") {
    const time_t moment = curl_getdate(std::string(value).c_str(), nullptr);
    if (moment >= 0) answer.unix_s = moment;
  } else if (name == "x-amz-bucket-region") {
    answer.region = value;
  } else if (name == "x-amz-meta-krul-write") {
    answer.mark = value;
  }
}

void take_error(Answer& answer, const std::vector<std::byte>& body) {
  Answer said;
  const Status status = read_xml(body, [&](std::string_view path, std::string_view text) {
    if (path == "Error/Code") said.code = text;
    if (path == "Error/Message") said.message = text.substr(0, 200);
    if (path == "Error/Region") said.region = text;
  });
  if (!status) return;
  answer.code = std::move(said.code);
  answer.message = std::move(said.message);
  if (!said.region.empty()) answer.region = std::move(said.region);
}

bool passes(const Answer& answer) {
  constexpr std::array<long, 6> statuses = {408, 429, 500, 502, 503, 504};
  constexpr std::array<std::string_view, 8> codes = {"RequestTimeout",
                                                     "SlowDown",
                                                     "InternalError",
                                                     "BadDigest",
                                                     "XAmzContentSHA256Mismatch",
                                                     "IncompleteBody",
                                                     "OperationAborted",
                                                     "ConditionalRequestConflict"};
  return std::find(statuses.begin(), statuses.end(), answer.status) != statuses.end() || is_one_of(answer.code, codes);
}

Error describe(const Answer& answer, const Told& told) {
  const std::string_view code = answer.code;
  const std::string cannot = "cannot " + told.action + ": ";
  const std::string said = std::to_string(answer.status) + (code.empty() ? "" : " " + escaped(code)) +
                           (answer.message.empty() ? "" : " (" + escaped(answer.message) + ")");
  const std::string bucket = "bucket " + told.bucket;
  if (code == "NoSuchBucket")
    return error_of(ErrorCode::io,
                    cannot + "there is no " + bucket + " at " + told.server + "; make it, or correct its name");
  if (code == "InvalidAccessKeyId")
    return error_of(ErrorCode::io, cannot + "the server does not know the access key; correct AWS_ACCESS_KEY_ID");
  if (code == "SignatureDoesNotMatch")
    return error_of(ErrorCode::io, cannot +
                                       "the secret key does not belong to the access key, or the region is another "
                                       "one; correct AWS_SECRET_ACCESS_KEY or the region");
  if (is_one_of(answer.code, std::array<std::string_view, 3>{"ExpiredToken", "InvalidToken", "TokenRefreshRequired"}))
    return error_of(ErrorCode::io, cannot +
                                       "the session token has run out or is not valid; fetch new credentials and set "
                                       "AWS_SESSION_TOKEN with both keys");
  if (code == "RequestTimeTooSkewed")
    return error_of(ErrorCode::io, cannot + "this machine's clock is " + std::to_string(told.clock_ahead_s) +
                                       " s ahead of the server's, which allows 900 either way; set the clock");
  if (answer.status == 301 || answer.status == 307 || code == "AuthorizationHeaderMalformed" ||
      code == "IllegalLocationConstraintException")
    return error_of(ErrorCode::invalid_argument,
                    cannot + bucket +
                        (answer.region.empty() ? " is in another region or at another endpoint; set its own"
                                               : " is in region " + escaped(answer.region) + "; set that region") +
                        " (the server answered " + said + ")");
  // Some servers answer a reached quota with 403 as well.
  if (answer.status == 507 || code == "QuotaExceeded" || code == "XMinioStorageFull")
    return error_of(ErrorCode::no_space, cannot + bucket + " is full (" + said + "); erase conversations");
  if (answer.status == 403)
    return error_of(ErrorCode::io, cannot + "the credentials may not do that in " + bucket +
                                       "; allow them s3:ListBucket on it and s3:GetObject, s3:PutObject, "
                                       "s3:DeleteObject and s3:AbortMultipartUpload on its objects (the server "
                                       "answered " +
                                       said + ")");
  if (answer.status == 404)
    return error_of(ErrorCode::not_found, cannot + "it is not in " + bucket + "; recompute what it held");
  if (answer.status == 409 || answer.status == 412)
    return error_of(ErrorCode::busy, cannot + "another writer was there first; open the conversation again");
  if (answer.status == 416)
    return error_of(ErrorCode::truncated, cannot + "it is shorter than that; recompute what it held");
  if (answer.status == 413 || code == "EntityTooLarge")
    return error_of(ErrorCode::too_large, cannot + "the server takes no object as large; save smaller conversations");
  if (answer.status == 501 || code == "NotImplemented")
    return error_of(ErrorCode::unsupported, cannot + "the server does not know how (" + said + "); use another one");
  if (answer.status == 401)
    return error_of(ErrorCode::io, cannot +
                                       "the server wants credentials; set AWS_ACCESS_KEY_ID and "
                                       "AWS_SECRET_ACCESS_KEY");
  return error_of(ErrorCode::io, cannot + "the server at " + told.server + " answered " + said + ", " +
                                     std::to_string(told.attempts) + " times of " + std::to_string(told.attempts) +
                                     "; try again later");
}

tl::unexpected<Error> strange(const std::string& action, const std::string& what) {
  return fail(ErrorCode::io,
              "cannot " + action + ": the server's answer " + what + "; check that the endpoint is an S3 server");
}

bool is_etag(std::string_view etag) {
  return !etag.empty() && etag.size() <= 128 && std::all_of(etag.begin(), etag.end(), [](char c) {
    return c > ' ' && c < 0x7f && c != '<' && c != '>' && c != '&';
  });
}

}  // namespace krul::s3
