#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "krul/core/error.hpp"
#include "krul/s3/s3_store.hpp"

namespace krul {

/// The value of a variable of the environment, or none.
using Environment = std::function<std::optional<std::string>(const std::string&)>;

/// The process's own.
[[nodiscard]] std::optional<std::string> process_environment(const std::string& name);

/// Options from `s3://BUCKET[/PREFIX][?NAME=VALUE&...]` with the names endpoint, region, path_style (0 or 1) and
/// connections; values may be percent-encoded. Credentials never stand in it: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY
/// and AWS_SESSION_TOKEN give them, AWS_REGION or AWS_DEFAULT_REGION and AWS_ENDPOINT_URL what the URL leaves out,
/// AWS_CA_BUNDLE the certificates. An endpoint of one's own is addressed by path unless path_style=0.
/// @return invalid_argument, with what is wrong
[[nodiscard]] Result<S3StoreOptions> parse_s3_url(std::string_view url,
                                                  const Environment& environment = process_environment);

/// What stands between options and a store that could be opened: invalid_argument with a sentence about the first.
[[nodiscard]] Status check_s3_options(const S3StoreOptions& options);

}  // namespace krul
