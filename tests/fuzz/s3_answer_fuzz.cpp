// Any bytes as an answer of an S3 server: lines of a head, then what the status makes of the rest: an error's body, or
// a page of a listing. What is kept of it is bounded, and what is told of it may be shown.
#include <algorithm>
#include <string>

#include "fuzz_target.hpp"
#include "krul/core/escaped.hpp"
#include "s3/answer.hpp"
#include "s3/listing.hpp"
#include "s3/xml.hpp"

namespace krul::fuzz {
namespace {

const std::string s3_prefix = "krul/", s3_action = "read object x";

/// Takes lines up to an empty one.
s3::Answer read_head(Input& input) {
  s3::Answer answer;
  while (!input.is_empty()) {
    const std::string_view rest = as_text(input.rest());
    const auto line = as_text(input.take(std::min(rest.find('\n'), rest.size() - 1) + 1));
    if (line == "\r\n" || line == "\n") break;
    s3::take_header(answer, line);
  }
  return answer;
}

/// Whether an error has a reason that a terminal bears, and no more of what the server said than it should.
template <class Checked>
bool is_answered(const Checked& result) {
  if (accepted(result)) return true;
  const std::string& message = result.error().message;
  require(escaped(message) == message, "an error commands a terminal");
  require(message.size() < 16'384, "an error repeats too much");
  return false;
}

void check_bounds(const s3::Answer& answer) {
  constexpr std::size_t longest_value = 1024, longest_text = 4096;
  require(answer.status >= 0 && answer.status <= 999, "a status has more than three digits");
  require(answer.etag.empty() || s3::is_etag(answer.etag), "an ETag would end a header");
  require(answer.mark.size() <= longest_value, "a value is too long");
  require(std::max({answer.region.size(), answer.code.size(), answer.message.size()}) <= longest_text, "too much");
}

void check_xml(std::span<const std::byte> body) {
  std::size_t elements = 0;
  const Status read = s3::read_xml(body, [&](std::string_view path, std::string_view text) {
    ++elements;
    require(!path.empty() && std::ranges::count(path, '/') < 8, "elements lie too deep");
    require(text.size() <= 4096, "a text is too long");
    require(text.empty() || (text.front() != ' ' && text.back() != '\n'), "there is white space around a text");
  });
  require(elements <= body.size(), "there are more elements than bytes");
  if (is_answered(read)) require(elements > 0, "a document of nothing is accepted");
}

void check_listing(std::span<const std::byte> body) {
  const auto page = s3::read_listing(body, s3_prefix, s3_action);
  if (is_answered(page)) {
    require(!page->has_more || !page->next.empty(), "a listing goes on nowhere");
    require(page->listed.size() <= body.size(), "there are more objects than bytes");
    for (const s3::Listed& object : page->listed) {
      require(object.key.starts_with(s3_prefix), "an object lies elsewhere");
      require(object.etag.empty() || s3::is_etag(object.etag), "an ETag would end a header");
    }
  }
  const auto uploads = s3::read_uploads(body, s3_prefix);
  if (is_answered(uploads))
    for (const s3::ListedUpload& upload : *uploads)
      require(upload.key.size() > s3_prefix.size() && !upload.id.empty(), "an upload has no name");
}

void read_s3_answer(std::span<const std::byte> bytes) {
  Input input(bytes);
  s3::Answer answer = read_head(input);
  const Bytes body(input.rest().begin(), input.rest().end());
  check_xml(body);
  check_listing(body);
  s3::take_error(answer, body);
  check_bounds(answer);
  (void)s3::passes(answer);
  const Status told = tl::unexpected<Error>(
      s3::describe(answer, {.action = s3_action, .bucket = "b", .server = "https://h", .attempts = 2}));
  require(!is_answered(told), "a failure is none");
}

std::vector<Bytes> s3_answer_seeds() {
  const std::string failed = "HTTP/1.1 403 Forbidden\r\nDate: Mon, 30 Nov 2026 09:54:33 GMT\r\n\r\n",
                    found = "HTTP/1.1 200 OK\r\nETag: \"0123\"\r\nContent-Length: 1234\r\n\r\n<?xml version=\"1.0\"?>";
  std::vector<Bytes> seeds;
  for (const char* code :
       {"NoSuchBucket", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "RequestTimeTooSkewed",
        "AuthorizationHeaderMalformed", "QuotaExceeded", "AccessDenied", "SlowDown", "NotImplemented"})
    seeds.push_back(joined({}, failed + "<Error><Code>" + code +
                                   "</Code><Message>x &lt; &#xe4;</Message><Region>eu-west-1</Region></Error>"));
  for (const std::string status : {"301", "307", "401", "404", "409", "412", "413", "416", "501", "503", "507"})
    seeds.push_back(joined({}, "HTTP/1.1 " + status + " x\r\nx-amz-bucket-region: eu-west-1\r\n\r\n"));
  seeds.push_back(joined({},
                         "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-9/100\r\n"
                         "x-amz-meta-krul-write: 0123456789abcdef\r\n\r\n0123456789"));
  seeds.push_back(joined({}, found +
                                 "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>n"
                                 "</NextContinuationToken><Contents><Key>krul/a%2Fb</Key><ETag>&quot;1&quot;</ETag>"
                                 "<Size>12</Size></Contents><CommonPrefixes><Prefix>krul/c</Prefix></CommonPrefixes>"
                                 "</ListBucketResult>"));
  seeds.push_back(joined({}, found +
                                 "<ListMultipartUploadsResult><Upload><Key>krul/a</Key><UploadId>u</UploadId></Upload>"
                                 "</ListMultipartUploadsResult>"));
  return seeds;
}

}  // namespace

Target s3_answer_target() {
  return {"s3_answer", read_s3_answer, s3_answer_seeds};
}

}  // namespace krul::fuzz
