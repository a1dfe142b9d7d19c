// A store in a bucket that nobody has: it can be asked for wherever krul is, and says what is wrong.

#include <cstdio>
#include <krul/s3/s3_url.hpp>

int main() {
  auto options = krul::parse_s3_url("s3://garden/meadow?endpoint=http://127.0.0.1:1",
                                    [](const std::string&) { return std::optional<std::string>(); });
  if (!options) return std::fprintf(stderr, "%s\n", options.error().message.c_str()), 1;
  options->retries.most = 0;
  const auto store = krul::S3Store::open(*options);
  std::printf("%s\n", store ? "opened" : store.error().message.c_str());
  return store ? 1 : 0;
}
