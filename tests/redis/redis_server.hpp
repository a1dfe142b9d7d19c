#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "krul/redis/redis_store.hpp"
#include "support/socket.hpp"
#include "support/temporary_directory.hpp"

namespace krul::test {

/// A redis-server of its own on a free port of 127.0.0.1, without persistence. It goes with this, or with the test.
class RedisServer {
 public:
  explicit RedisServer(std::vector<std::string> more = {}, std::string password = {})
      : more_(std::move(more)), password_(std::move(password)), port_(Socket::listening().port()) {
    start();
  }
  RedisServer(const RedisServer&) = delete;
  RedisServer& operator=(const RedisServer&) = delete;
  ~RedisServer() { kill(); }

  /// Why there is none, or none can be asked; nothing if both can be.
  static std::optional<std::string> missing() {
    if (std::system("redis-server --version >/dev/null 2>&1") != 0)
      return "redis-server is not here (Debian: redis-server)";
    const auto store = RedisStore::open({.port = 1});
    if (!store && store.error().code == ErrorCode::unsupported) return store.error().message;
    return {};
  }

  void start() {
    process_ = ::fork();
    if (process_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      const int nowhere = ::open("/dev/null", O_RDWR);
      for (const int stream : {0, 1, 2}) ::dup2(nowhere, stream);
      const std::string port = std::to_string(port_), directory = directory_.path().string();
      std::vector<std::string> words = {
          "redis-server", "--port", port,    "--bind",  "127.0.0.1",   "--save", "",
          "--appendonly", "no",     "--dir", directory, "--daemonize", "no",     "--enable-debug-command",
          "yes"};
      words.insert(words.end(), more_.begin(), more_.end());
      if (!password_.empty()) words.insert(words.end(), {"--requirepass", password_});
      std::vector<char*> pointers;
      for (std::string& word : words) pointers.push_back(word.data());
      pointers.push_back(nullptr);
      ::execvp("redis-server", pointers.data());
      ::_exit(127);
    }
    for (int i = 0; i < 1000; ++i) {
      try {
        if (ask({"PING"}) == "+PONG\r\n") return;
      } catch (const std::exception&) {
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    throw std::runtime_error("redis-server does not start");
  }
  void kill() {
    if (process_ <= 0) return;
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
    process_ = -1;
  }
  void stop() { ::kill(process_, SIGSTOP); }
  void go_on() { ::kill(process_, SIGCONT); }

  /// What the server replies, as it stands in its protocol.
  std::string ask(const std::vector<std::string>& words) const {
    const Socket socket = Socket::connected(port_);
    std::string text;
    const auto add = [&](const std::vector<std::string>& command) {
      text += "*" + std::to_string(command.size()) + "\r\n";
      for (const std::string& word : command) text += "$" + std::to_string(word.size()) + "\r\n" + word + "\r\n";
    };
    if (!password_.empty()) add({"AUTH", password_});
    add(words);
    add({"QUIT"});
    if (::send(socket.descriptor(), text.data(), text.size(), MSG_NOSIGNAL) < 0) throw std::runtime_error("cannot ask");
    std::string reply;
    char room[4096];
    for (ssize_t count = 0; (count = ::recv(socket.descriptor(), room, sizeof room, 0)) > 0;)
      reply.append(room, static_cast<std::size_t>(count));
    if (!reply.ends_with("+OK\r\n")) throw std::runtime_error("the server did not reply: " + reply);
    reply.resize(reply.size() - 5);
    return password_.empty() ? reply : reply.substr(5);
  }
  /// Keys of all databases.
  std::string keys() const { return ask({"KEYS", "*"}); }

  [[nodiscard]] int port() const noexcept { return port_; }
  [[nodiscard]] RedisStoreOptions options() const {
    RedisStoreOptions options;
    options.port = port_;
    options.password = password_;
    options.largest_value = 16 << 10;
    return options;
  }

 private:
  std::vector<std::string> more_;
  std::string password_;
  TemporaryDirectory directory_;
  int port_;
  pid_t process_ = -1;
};

/// Ends a test that needs a server where there is none, with a message.
#define KRUL_NEEDS_REDIS()                                          \
  do {                                                              \
    static const auto missing = krul::test::RedisServer::missing(); \
    if (missing) {                                                  \
      MESSAGE("left out: " << *missing);                            \
      return;                                                       \
    }                                                               \
  } while (false)

}  // namespace krul::test
