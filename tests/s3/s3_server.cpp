#include "s3_server.hpp"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <stdexcept>

namespace krul::test {

S3Server* S3Server::running() {
  static const std::unique_ptr<S3Server> server = [] {
    std::unique_ptr<S3Server> starting(new S3Server);
    const std::string missing = starting->start();
    if (missing.empty()) return starting;
    // Once, and not for each test.
    MESSAGE("skipped: no S3 server to test with (", missing, "); scripts/test --servers fetches one");
    return std::unique_ptr<S3Server>();
  }();
  return server.get();
}

// What is missing; nothing if it runs.
std::string S3Server::start() {
  ::setenv("no_proxy", "127.0.0.1", 1);
  ::signal(SIGPIPE, SIG_IGN);
  std::array<int, 2> to{}, from{};
  if (::pipe(to.data()) != 0 || ::pipe(from.data()) != 0) return "no pipes";
  child_ = ::fork();
  if (child_ == 0) {
    ::dup2(to[0], STDIN_FILENO);
    ::dup2(from[1], STDOUT_FILENO);
    for (const int end : {to[0], to[1], from[0], from[1]}) ::close(end);
    ::execlp("python3", "python3", KRUL_S3_PROXY, nullptr);
    ::_exit(127);
  }
  ::close(to[0]);
  ::close(from[1]);
  to_child_ = to[1];
  from_child_ = from[0];
  const std::string line = read_line();
  const auto told = nlohmann::json::parse(line, nullptr, false);
  if (told.is_discarded()) return "python3 could not run " KRUL_S3_PROXY;
  if (told.contains("missing")) return told["missing"].get<std::string>();
  port_ = told["port"];
  command({{"bucket", "krul-test"}});
  return {};
}

S3Server::~S3Server() {
  if (to_child_ >= 0) ::close(to_child_);
  if (from_child_ >= 0) ::close(from_child_);
  if (child_ > 0) ::waitpid(child_, nullptr, 0);
}

std::string S3Server::read_line() {
  std::string line;
  char c = 0;
  while (::read(from_child_, &c, 1) == 1 && c != '\n') line += c;
  return line;
}

nlohmann::json S3Server::command(const nlohmann::json& command) {
  const std::string line = command.dump() + "\n";
  if (::write(to_child_, line.data(), line.size()) != static_cast<ssize_t>(line.size()))
    throw std::runtime_error("the S3 server has ended");
  return nlohmann::json::parse(read_line());
}

S3StoreOptions S3Server::options() {
  S3StoreOptions options;
  options.endpoint = "http://127.0.0.1:" + std::to_string(port_);
  options.region = "eu-test-1";
  options.bucket = "krul-test";
  options.prefix = "tests/number-" + std::to_string(++prefixes_);
  options.access_key = "AKIDKRULTEST";
  options.secret_key = "secret:with/odd+characters";
  options.session_token = "session-token";
  options.path_style = true;
  options.sources = {.now = [clock = clock_] { return clock.now(); },
                     .sleep_until = [clock = clock_](TimePoint moment) { clock.sleep_until(moment); },
                     .random = [] { return 0.5; }};
  return options;
}

}  // namespace krul::test
