#include "krul/s3/s3_url.hpp"

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "krul/core/url_text.hpp"

namespace krul {
namespace s3 {
namespace {

constexpr std::string_view lower_digits = "abcdefghijklmnopqrstuvwxyz0123456789";
constexpr std::string_view prefix_characters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/-";

bool only(std::string_view text, std::string_view characters) {
  return text.find_first_not_of(characters) == std::string_view::npos;
}

tl::unexpected<Error> meant_otherwise(const std::string& sentence) {
  return fail(ErrorCode::invalid_argument, sentence);
}

bool is_bucket(std::string_view bucket) {
  return bucket.size() >= 3 && bucket.size() <= 63 && only(bucket, std::string(lower_digits) + ".-") &&
         only(bucket.substr(0, 1), lower_digits) && only(bucket.substr(bucket.size() - 1), lower_digits) &&
         bucket.find("..") == std::string_view::npos;
}

// Each step of the path is a name, so that no server and no library on the way shortens it.
bool is_prefix(std::string_view prefix) {
  if (prefix.empty()) return true;
  if (!only(prefix, prefix_characters) || prefix.size() > 512) return false;
  while (true) {
    const std::size_t end = std::min(prefix.find('/'), prefix.size());
    const std::string_view step = prefix.substr(0, end);
    if (step.empty() || step == "." || step == "..") return false;
    if (end == prefix.size()) return true;
    prefix.remove_prefix(end + 1);
  }
}

bool is_endpoint(std::string_view endpoint) {
  const bool secure = endpoint.starts_with("https://");
  if (!secure && !endpoint.starts_with("http://")) return false;
  const std::string_view host = endpoint.substr(secure ? 8 : 7);
  return !host.empty() && only(host, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-:[]");
}

bool is_printable(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

Result<std::string> decoded_part(std::string_view text) {
  auto decoded = percent_decoded(text);
  if (!decoded) return meant_otherwise("in the S3 URL, % is not followed by two hexadecimal digits; write %25 for %");
  return std::move(*decoded);
}

Status take_parameter(S3StoreOptions& options, std::string_view name, const std::string& value,
                      std::optional<bool>& path_style) {
  if (name == "endpoint") {
    options.endpoint = value;
  } else if (name == "region") {
    options.region = value;
  } else if (name == "path_style") {
    if (value != "0" && value != "1") return meant_otherwise("in the S3 URL, path_style is 0 or 1");
    path_style = value == "1";
  } else if (name == "connections") {
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), options.connections);
    if (error != std::errc() || end != value.data() + value.size())
      return meant_otherwise("in the S3 URL, connections is a number");
  } else {
    return meant_otherwise(
        "the S3 URL has a parameter that is not known; there are endpoint, region, path_style and connections, and "
        "credentials come from the environment");
  }
  return {};
}

}  // namespace
}  // namespace s3

std::optional<std::string> process_environment(const std::string& name) {
  const char* const value = std::getenv(name.c_str());
  if (!value || !*value) return std::nullopt;
  return value;
}

Status check_s3_options(const S3StoreOptions& options) {
  using s3::meant_otherwise;
  if (!s3::is_bucket(options.bucket))
    return meant_otherwise("a bucket's name has 3 to 63 characters of a-z, 0-9, . and -; give the bucket's own");
  if (!s3::is_prefix(options.prefix))
    return meant_otherwise(
        "the prefix of an S3 store is names of [A-Za-z0-9._-] with single slashes between them, and 512 characters at "
        "most; choose such a one");
  if (!options.endpoint.empty() && !s3::is_endpoint(options.endpoint))
    return meant_otherwise("the endpoint of an S3 store is http://HOST[:PORT] or https://HOST[:PORT], without a path");
  if (options.region.empty() || !s3::only(options.region, std::string(s3::lower_digits) + "-"))
    return meant_otherwise("the region of an S3 store is a name such as eu-west-1; servers without any take us-east-1");
  if (options.access_key.empty() != options.secret_key.empty())
    return meant_otherwise("an S3 store needs both keys or none: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
  if (!s3::is_printable(options.access_key) || !s3::is_printable(options.secret_key) ||
      !s3::is_printable(options.session_token))
    return meant_otherwise("the credentials of an S3 store hold a space or a control character; copy them anew");
  if (options.connections < 1 || options.connections > 256)
    return meant_otherwise("an S3 store uses 1 to 256 connections");
  if (options.part_bytes < (5ULL << 20) || options.part_bytes > (1ULL << 30))
    return meant_otherwise("the parts of an upload to S3 have 5 MiB to 1 GiB");
  if (options.multipart_above > (5ULL << 30)) return meant_otherwise("one request to S3 uploads 5 GiB at most");
  if (options.read_bytes < 1) return meant_otherwise("a request to S3 reads one byte at least");
  if (options.lock_lifetime < std::chrono::seconds(3))
    return meant_otherwise("a lock in S3 lives for 3 seconds at least: servers tell time in seconds");
  if (options.connect_timeout < std::chrono::milliseconds(1) || options.idle_timeout < std::chrono::milliseconds(1))
    return meant_otherwise("the timeouts of an S3 store are a millisecond at least");
  return {};
}

Result<S3StoreOptions> parse_s3_url(std::string_view url, const Environment& environment) {
  constexpr std::string_view scheme = "s3://";
  if (!url.starts_with(scheme)) return s3::meant_otherwise("an S3 URL has the form s3://BUCKET/PREFIX?region=REGION");
  url.remove_prefix(scheme.size());
  S3StoreOptions options;
  const auto from = [&](const char* name, std::string& to) {
    if (auto value = environment(name)) to = std::move(*value);
  };
  from("AWS_DEFAULT_REGION", options.region);
  from("AWS_REGION", options.region);
  from("AWS_ENDPOINT_URL", options.endpoint);
  from("AWS_ACCESS_KEY_ID", options.access_key);
  from("AWS_SECRET_ACCESS_KEY", options.secret_key);
  from("AWS_SESSION_TOKEN", options.session_token);
  from("AWS_CA_BUNDLE", options.ca_file);

  std::string_view parameters = url;
  std::string_view path = cut_off(parameters, '?');
  options.bucket = cut_off(path, '/');
  auto prefix = s3::decoded_part(path);
  if (!prefix) return propagate(prefix);
  options.prefix = std::move(*prefix);
  if (options.prefix.ends_with('/')) options.prefix.pop_back();

  std::optional<bool> path_style;
  while (!parameters.empty()) {
    std::string_view text = cut_off(parameters, '&');
    const std::string_view name = cut_off(text, '=');
    const auto value = s3::decoded_part(text);
    if (!value) return propagate(value);
    if (const Status status = s3::take_parameter(options, name, *value, path_style); !status) return propagate(status);
  }
  while (options.endpoint.ends_with('/')) options.endpoint.pop_back();
  options.path_style = path_style.value_or(!options.endpoint.empty());
  if (const Status status = check_s3_options(options); !status) return propagate(status);
  return options;
}

}  // namespace krul
