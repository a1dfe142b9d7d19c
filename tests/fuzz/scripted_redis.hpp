#pragma once

#include <fcntl.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fuzz_target.hpp"
#include "support/socket.hpp"

namespace krul::fuzz {

/// A server of two objects, as it should be: whatever it is asked, it replies what Redis would.
struct HonestRedis {
  static constexpr std::string_view folder = "0123456789abcdef0123456789abcdef";
  static constexpr std::size_t short_bytes = 1500, short_part = 1024, long_bytes = 66'000, long_part = 524'288;
  bool is_cluster = false;

  /// What every object begins with: bytes of 1 to 127.
  static std::string_view content(std::size_t bytes) {
    static const std::string longest = [] {
      std::string text;
      for (std::size_t at = 0; at < long_bytes; ++at) text += static_cast<char>(1 + at * 7 % 127);
      return text;
    }();
    return std::string_view(longest).substr(0, bytes);
  }
  static std::string bulk(std::string_view text) {
    return "$" + std::to_string(text.size()) + "\r\n" + std::string(text) + "\r\n";
  }
  static std::string entry(bool is_long) {
    return is_long ? std::to_string(long_bytes) + " " + std::to_string(long_part) + " " + std::string(32, 'b')
                   : std::to_string(short_bytes) + " " + std::to_string(short_part) + " " + std::string(32, 'a');
  }

  [[nodiscard]] std::string reply(const std::vector<std::string>& words) const {
    const auto word = [&](std::size_t i) { return i < words.size() ? std::string_view(words[i]) : std::string_view(); };
    const std::string_view verb = word(0);
    if (verb == "CLUSTER")
      return is_cluster ? "*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$9\r\n127.0.0.1\r\n:7000\r\n$1\r\nx\r\n"
                        : "-ERR This instance has cluster support disabled\r\n";
    if (verb == "HGET") return word(2) == "short" || word(2) == "long" ? bulk(entry(word(2) == "long")) : "$-1\r\n";
    if (verb == "HKEYS") return "*2\r\n" + bulk("short") + bulk("long");
    if (verb == "SCAN") return "*2\r\n" + bulk("0") + "*1\r\n" + bulk("krul:{" + std::string(folder) + "}:objects");
    if (verb == "GETRANGE") return range(word(1), number(word(2)), number(word(3)));
    if (verb == "UNLINK") return ":1\r\n";
    if (verb == "EVAL") return word(2) == "2" ? ":1\r\n" : ":0\r\n";
    return "+OK\r\n";
  }

 private:
  static std::size_t number(std::string_view digits) {
    std::size_t value = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return value;
  }
  static std::string range(std::string_view key, std::size_t first, std::size_t last) {
    const std::string_view start = "krul:{0123456789abcdef0123456789abcdef}:part:";
    const bool is_long = key.starts_with(std::string(start) + std::string(32, 'b') + ":");
    const std::size_t object = is_long ? long_bytes : short_bytes, part = is_long ? long_part : short_part;
    if (!is_long && !key.starts_with(std::string(start) + std::string(32, 'a') + ":")) return bulk("");
    const std::size_t index = number(key.substr(start.size() + 33));
    const std::size_t begin = std::min(index, object) * part, end = std::min(begin + part, object);
    const std::string_view held = content(end).substr(begin);
    return first > last || first >= held.size() ? bulk("") : bulk(held.substr(first, last - first + 1));
  }
};

/// Replies that an input says: right ones, right ones that were changed, and any bytes. Once they are used up, the
/// server is honest.
class ReplyScript {
 public:
  ReplyScript(HonestRedis honest, std::span<const std::byte> pieces) : honest_(honest), pieces_(pieces) {}

  /// What comes in one piece, or what an honest server replies if none are left; nothing: the connection is closed.
  [[nodiscard]] std::optional<std::string> next(const std::vector<std::string>& words) {
    std::string reply = honest_.reply(words);
    if (is_over()) return reply;
    const auto put_in = [&](std::size_t at) {
      const std::size_t count = pieces_.byte();
      reply.insert(at, as_text(pieces_.take(count)));
    };
    switch (pieces_.byte() % 10) {
      case 0:
        break;
      case 1:
        reply.clear();
        put_in(0);
        break;
      case 2:
        reply.resize(pieces_.two_bytes() % (reply.size() + 1));
        break;
      case 3: {
        char& changed = reply[pieces_.two_bytes() % reply.size()];
        changed = static_cast<char>(static_cast<std::size_t>(static_cast<unsigned char>(changed)) ^ pieces_.byte());
        break;
      }
      case 4:
        put_in(pieces_.two_bytes() % (reply.size() + 1));
        break;
      case 5:
        reply = other_reply();
        break;
      case 6:
        reply = redirection();
        break;
      case 7:
        reply += reply;
        break;
      case 8: {
        const std::size_t from = pieces_.two_bytes() % (reply.size() + 1), count = pieces_.byte();
        reply.erase(from, count);
        break;
      }
      default:
        return std::nullopt;
    }
    return reply;
  }
  [[nodiscard]] bool is_over() const { return is_dropped_ || pieces_.is_empty(); }
  /// From now on the server is honest.
  void drop() { is_dropped_ = true; }

 private:
  [[nodiscard]] std::string other_reply() {
    static const std::vector<std::string> verbs[] = {
        {"CLUSTER"}, {"HGET", "", "short"}, {"HGET", "", "long"}, {"HGET", "", ""}, {"HKEYS"}, {"SCAN"},
        {"UNLINK"},  {"EVAL", "", "1"},     {"GETRANGE"},         {"SET"}};
    return honest_.reply(verbs[pieces_.byte() % std::size(verbs)]);
  }
  [[nodiscard]] std::string redirection() {
    static const char* const errors[] = {"-MOVED 1 127.0.0.1:7001\r\n",
                                         "-ASK 1 127.0.0.1:7002\r\n",
                                         "-MOVED 1 :7003\r\n",
                                         "-TRYAGAIN\r\n",
                                         "-READONLY\r\n",
                                         "-LOADING\r\n",
                                         "-OOM\r\n",
                                         "-NOAUTH\r\n",
                                         "-CLUSTERDOWN\r\n",
                                         "-ERR non local key\r\n",
                                         "-WRONGTYPE\r\n",
                                         "-NOPERM\r\n",
                                         "*2\r\n$1\r\n7\r\n*0\r\n",
                                         "*-1\r\n"};
    return errors[pieces_.byte() % std::size(errors)];
  }

  HonestRedis honest_;
  Input pieces_;
  bool is_dropped_ = false;
};

/// How far one side of a connection has come: what was said and not yet taken is kept.
class RequestReader {
 public:
  void feed(std::string_view bytes) { unread_ += bytes; }
  /// The words of the next request, if it is there.
  [[nodiscard]] std::optional<std::vector<std::string>> next() {
    std::size_t at = 0;
    const auto count = number(at);
    if (!count) return std::nullopt;
    std::vector<std::string> words;
    for (std::size_t i = 0; i < *count; ++i) {
      const auto length = number(at);
      if (!length || unread_.size() < at + *length + 2) return std::nullopt;
      words.push_back(unread_.substr(at, *length));
      at += *length + 2;
    }
    unread_.erase(0, at);
    return words;
  }

 private:
  /// After '*' or '$'; leaves `at` behind the line.
  [[nodiscard]] std::optional<std::size_t> number(std::size_t& at) const {
    const std::size_t end = unread_.find("\r\n", at);
    if (end == std::string::npos) return std::nullopt;
    std::size_t value = 0;
    std::from_chars(unread_.data() + at + 1, unread_.data() + end, value);
    at = end + 2;
    return value;
  }
  std::string unread_;
};

/// Whether each request has a whole reply, as whoever waits for the rest of one would wait for ever.
class ReplyEnds {
 public:
  enum class State : std::uint8_t { whole, unfinished, broken };

  void ask() { ++owed_; }
  [[nodiscard]] State feed(std::string_view bytes) {
    unread_ += bytes;
    while (!unread_.empty()) {
      const std::size_t end = unread_.find("\r\n");
      if (std::string_view("+-:$*").find(unread_[0]) == std::string_view::npos) return State::broken;
      if (end == std::string::npos) return State::unfinished;
      long long number = 0;
      const char* const digits = unread_.data() + 1;
      const bool is_number = std::from_chars(digits, unread_.data() + end, number).ptr == unread_.data() + end;
      const char type = unread_[0];
      if ((type == '$' || type == '*') && (!is_number || number > most)) return State::broken;
      std::size_t length = end + 2;
      if (type == '$' && number >= 0) length += static_cast<std::size_t>(number) + 2;
      if (unread_.size() < length) return State::unfinished;
      unread_.erase(0, length);
      if (awaited_ > 0) --awaited_;
      if (type == '*' && number > 0) awaited_ += static_cast<std::size_t>(number);
      if (awaited_ == 0) --owed_;
    }
    return awaited_ > 0 || owed_ > 0 ? State::unfinished : State::whole;
  }

 private:
  static constexpr long long most = 1 << 20;
  std::string unread_;
  std::size_t awaited_ = 0;  ///< elements of arrays
  int owed_ = 0;             ///< replies; fewer than none if some were never asked for
};

/// Serves a script on a port of 127.0.0.1, over any number of connections. It has no thread: it is at work whenever
/// poll() is called, so that an input always does the same. It never leaves a reply unfinished and stays silent: then
/// more of the script follows, or the connection is closed.
class ScriptedRedis {
 public:
  /// @param never_sent  '0' is sent in the place of this byte
  ScriptedRedis(ReplyScript& script, char never_sent) : script_(script), never_sent_(never_sent) { running() = this; }
  ScriptedRedis(const ScriptedRedis&) = delete;
  ScriptedRedis& operator=(const ScriptedRedis&) = delete;
  ~ScriptedRedis() {
    let_in();  // and away: who has not been let in by now has gone again
    running() = nullptr;
  }

  /// The one that there is, or a null pointer.
  [[nodiscard]] static ScriptedRedis*& running() {
    static ScriptedRedis* server = nullptr;
    return server;
  }
  /// The port of all of them.
  [[nodiscard]] static int port() { return listening().port(); }

  /// Replies to what has been asked.
  void serve() {
    let_in();
    std::erase_if(clients_, [this](Client& client) { return !answer(client); });
  }

 private:
  struct Client {
    std::unique_ptr<test::Socket> socket;
    RequestReader requests = {};
    ReplyEnds ends = {};
  };

  static const test::Socket& listening() {
    static const test::Socket socket = [] {
      test::Socket made = test::Socket::listening();
      ::fcntl(made.descriptor(), F_SETFL, O_NONBLOCK);
      return made;
    }();
    return socket;
  }

  void let_in() {
    while (true) {
      const int client = ::accept4(listening().descriptor(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
      if (client < 0) return;
      const int at_once = 1;
      ::setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof at_once);
      clients_.push_back({std::make_unique<test::Socket>(client)});
    }
  }

  /// @return whether the connection goes on
  bool answer(Client& client) {
    char room[8192];
    const ssize_t count = ::recv(client.socket->descriptor(), room, sizeof room, 0);
    if (count <= 0) return count < 0 && errno == EAGAIN;
    client.requests.feed({room, static_cast<std::size_t>(count)});
    while (const auto request = client.requests.next()) {
      client.ends.ask();
      for (auto state = ReplyEnds::State::unfinished; state == ReplyEnds::State::unfinished;) {
        const auto reply = script_.next(*request);
        if (!reply) return false;
        const bool is_last = script_.is_over();
        if (!send(client, *reply)) return false;
        state = client.ends.feed(*reply);
        if (state == ReplyEnds::State::broken || (state == ReplyEnds::State::unfinished && is_last)) return false;
      }
    }
    return true;
  }

  bool send(const Client& client, std::string text) const {
    for (auto at = text.find(never_sent_); at != std::string::npos; at = text.find(never_sent_, at)) text[at] = '0';
    const ssize_t sent = ::send(client.socket->descriptor(), text.data(), text.size(), MSG_NOSIGNAL);
    return sent == static_cast<ssize_t>(text.size());
  }

  ReplyScript& script_;
  char never_sent_;
  std::vector<Client> clients_;
};

}  // namespace krul::fuzz
