#include "connection.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <string_view>
#include <system_error>
#include <utility>

#include "krul/core/escaped.hpp"

namespace krul::redis {
namespace {

constexpr std::size_t bytes_a_read = std::size_t{256} << 10;
/// Strings from this length on are worth reading past hiredis, which copies them twice; of them so much is read at
/// first.
constexpr std::size_t long_string = std::size_t{64} << 10, beginning = std::size_t{8} << 10;
/// What may lie in the reader beside the string that is awaited: what was read along, and the lengths of an array.
constexpr std::size_t slack = std::size_t{1} << 20;
/// Of a status, an error or a length.
constexpr std::size_t longest_line = std::size_t{64} << 10;

// hiredis makes the parts of a reply through these. Its own ones are wrapped, so that a reply is never larger than what
// was asked for; a null pointer ends the connection.

/// hiredis' own, which every new reader has.
const redisReplyObjectFunctions& usual_functions() {
  static const redisReplyObjectFunctions functions = [] {
    const std::unique_ptr<redisReader, decltype(&redisReaderFree)> reader(redisReaderCreate(), &redisReaderFree);
    return reader ? *reader->fn : redisReplyObjectFunctions{};
  }();
  return functions;
}

Expected& expected_of(const redisReadTask* task) {
  return *static_cast<Expected*>(task->privdata);
}

void* limited_string(const redisReadTask* task, char* text, std::size_t length) {
  Expected& expected = expected_of(task);
  if (!expected.into.empty() && task->type == REDIS_REPLY_STRING && !task->parent) {
    if (length > expected.into.size()) return nullptr;
    if (!expected.is_direct) {
      std::memcpy(expected.into.data(), text, length);
      expected.filled = length;
    }
    length = 0;
  }
  if (length > expected.most_bytes - expected.bytes) return nullptr;
  expected.bytes += length;
  return usual_functions().createString(task, text, length);
}

template <class Count>  // int, and std::size_t from hiredis 1.0 on
void* limited_array(const redisReadTask* task, Count count) {
  Expected& expected = expected_of(task);
  if (count < 0 || static_cast<std::size_t>(count) > expected.most_elements - expected.elements) return nullptr;
  expected.elements += static_cast<std::size_t>(count);
  return usual_functions().createArray(task, count);
}

timeval timeval_of(Duration duration) {
  const auto micros = std::chrono::ceil<std::chrono::microseconds>(duration).count();
  return {.tv_sec = static_cast<time_t>(micros / 1'000'000), .tv_usec = static_cast<suseconds_t>(micros % 1'000'000)};
}

std::string system_message(int error) {
  return std::system_category().message(error);
}

}  // namespace

std::string in_ms(Duration duration) {
  return std::to_string(std::chrono::ceil<std::chrono::milliseconds>(duration).count());
}

std::string Address::text() const {
  const bool is_v6 = host.find(':') != std::string::npos;
  return (is_v6 ? "[" + escaped(host) + "]" : escaped(host)) + ":" + std::to_string(port);
}

tl::unexpected<Error> silent(const Address& address, Duration timeout) {
  return fail(ErrorCode::deadline, "the Redis server at " + address.text() + " was silent for " + in_ms(timeout) +
                                       " ms; it is overloaded, stopped or cut off: see to it, or allow more time");
}

tl::unexpected<Error> server_error(const Address& address, std::string_view text, std::string_view keys) {
  struct Meaning {
    std::string_view word;
    ErrorCode code;
    std::string_view advice;
  };
  static constexpr Meaning meanings[] = {
      {"LOADING", ErrorCode::io, "is still loading its data; try again when it is done"},
      {"OOM", ErrorCode::no_space, "has no memory left; raise its maxmemory, or erase conversations"},
      {"MISCONF", ErrorCode::no_space, "takes no writes, as it cannot save its data; see to its disk"},
      {"READONLY", ErrorCode::io, "is a replica and takes no writes; name the master"},
      {"NOREPLICAS", ErrorCode::io, "takes no writes without its replicas; see to them"},
      {"NOAUTH", ErrorCode::invalid_argument, "asks for a password; give one"},
      {"WRONGPASS", ErrorCode::invalid_argument, "does not know the user or the password; correct them"},
      {"NOPERM", ErrorCode::invalid_argument, "does not let this user do it; give the user the rights"},
      {"CLUSTERDOWN", ErrorCode::io, "is in a cluster that is down; repair the cluster"},
      {"MASTERDOWN", ErrorCode::io, "is a replica without its master; repair the master"},
      {"MOVED", ErrorCode::io, "sends every request elsewhere; repair the cluster"},
      {"ASK", ErrorCode::io, "sends every request elsewhere; repair the cluster"},
      {"TRYAGAIN", ErrorCode::io, "is moving the conversation to another node; try again when it is done"},
      {"BUSY", ErrorCode::io, "is held up by somebody's script; end it with SCRIPT KILL"},
  };
  const std::string said = " (" + escaped(text.substr(0, 200)) + ")";
  const std::string server = "the Redis server at " + address.text() + " ";
  // A script's error is wrapped up in another one by servers before 7.
  const std::string_view word = text.find("OOM command not allowed") != std::string_view::npos
                                    ? std::string_view("OOM")
                                    : text.substr(0, text.find(' '));
  if (text.find("WRONGTYPE") != std::string_view::npos)
    return fail(ErrorCode::io, server + "has something that krul did not write under " +
                                   (keys.empty() ? "krul's keys" : escaped(keys)) +
                                   ": delete or rename it, or use another prefix" + said);
  for (const Meaning& meaning : meanings)
    if (word == meaning.word) return fail(meaning.code, server + std::string(meaning.advice) + said);
  if (text.starts_with("ERR invalid password") || text.starts_with("ERR AUTH") ||
      text.starts_with("ERR Client sent AUTH"))
    return fail(ErrorCode::invalid_argument, server + "does not take the password; correct or leave it out" + said);
  if (text.starts_with("ERR DB index") || text.starts_with("ERR SELECT") || text.starts_with("ERR invalid DB"))
    return fail(ErrorCode::invalid_argument, server + "has no such database; use 0" + said);
  return fail(ErrorCode::io, server + "refused a request; see what it says" + said);
}

Connection::Connection(Address address, std::unique_ptr<redisContext, FreeContext> context)
    : address_(std::move(address)), context_(std::move(context)) {
  static redisReplyObjectFunctions limited = [] {
    redisReplyObjectFunctions functions = usual_functions();
    functions.createString = limited_string;
    functions.createArray = limited_array;
    return functions;
  }();
  context_->reader->fn = &limited;
  // The reader's room stays: to make it anew for each value takes about as long as to read one.
  context_->reader->maxbuf = 0;
}

tl::unexpected<Error> Connection::broken(const std::string& why) const {
  return fail(ErrorCode::io, "the connection to the Redis server at " + address_.text() + " broke (" + escaped(why) +
                                 "); see that it runs and can be reached");
}

Result<Connection> Connection::open(const Address& address, const RedisStoreOptions& options, TimePoint until) {
  if (!usual_functions().createString) return fail(ErrorCode::io, "no memory for a connection to the Redis server");
  // At least a moment: none would mean for ever.
  const auto left = [&] { return std::max<Duration>(until - SteadyClock{}.now(), std::chrono::milliseconds(1)); };
  const TimePoint start = SteadyClock{}.now();
  std::unique_ptr<redisContext, FreeContext> context(redisConnectWithTimeout(
      address.host.c_str(), address.port, timeval_of(std::min(options.connect_timeout, left()))));
  if (!context || context->err != 0) {
    const int error = errno;
    const bool is_late = context && context->err == REDIS_ERR_IO && (error == ETIMEDOUT || error == EINPROGRESS);
    return fail(is_late ? ErrorCode::deadline : ErrorCode::io,
                "no connection to the Redis server at " + address.text() + " (" +
                    escaped(context ? context->errstr : "no memory") + "); see that it runs and can be reached");
  }
  redisEnableKeepAlive(context.get());
  const int flags = ::fcntl(context->fd, F_GETFL);
  if (flags < 0 || ::fcntl(context->fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
      ::fcntl(context->fd, F_SETFD, FD_CLOEXEC) < 0)
    return fail(ErrorCode::io, "a connection cannot be made non-blocking: " + system_message(errno));
  Connection opened(address, std::move(context));
  opened.connected_in_ = SteadyClock{}.now() - start;

  std::vector<Command> login;
  if (!options.user.empty())
    login.push_back({.words = {"AUTH", options.user, options.password}});
  else if (!options.password.empty())
    login.push_back({.words = {"AUTH", options.password}});
  if (options.database != 0) login.push_back({.words = {"SELECT", std::to_string(options.database)}});
  const auto replies = opened.ask(login, std::min(options.request_timeout, left()));
  if (!replies) return propagate(replies);
  for (const Reply& reply : *replies)
    if (reply->type == REDIS_REPLY_ERROR) return server_error(address, text_of(*reply));
  return opened;
}

bool Connection::is_quiet() const {
  pollfd state{.fd = descriptor(), .events = POLLIN, .revents = 0};
  return ::poll(&state, 1, 0) == 0 && context_->reader->len == context_->reader->pos;
}

void Connection::send(Command& command) {
  Expected& expected = command.expected;
  expected.filled = expected.bytes = expected.elements = 0;
  expected.is_direct = false;
  const auto prefix = [](char type, std::size_t number) { return type + std::to_string(number) + "\r\n"; };
  std::string text = prefix('*', command.words.size() + (command.value.empty() ? 0 : 1));
  for (const std::string& word : command.words) {
    text += prefix('$', word.size());
    text += word;
    text += "\r\n";
  }
  if (!command.value.empty()) text += prefix('$', command.value.size());
  // Short commands are written together.
  if (!unwritten_.empty() && unwritten_.back().lent.empty())
    unwritten_.back().own += text;
  else
    unwritten_.push_back({std::move(text), {}});
  if (command.value.empty()) return;
  unwritten_.push_back({{}, command.value});
  unwritten_.push_back({"\r\n", {}});
}

Status Connection::write() {
  while (!unwritten_.empty()) {
    std::array<iovec, 16> parts;
    const std::size_t count = std::min(parts.size(), unwritten_.size());
    for (std::size_t i = 0; i < count; ++i) {
      const auto bytes = unwritten_[i].bytes().subspan(i == 0 ? written_ : 0);
      parts[i] = {.iov_base = const_cast<std::byte*>(bytes.data()), .iov_len = bytes.size()};
    }
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = count;
    const ssize_t sent = ::sendmsg(descriptor(), &message, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return {};
    if (sent < 0) return broken(system_message(errno));
    for (written_ += static_cast<std::size_t>(sent); !unwritten_.empty(); unwritten_.pop_front()) {
      const std::size_t length = unwritten_.front().bytes().size();
      if (written_ < length) break;
      written_ -= length;
    }
  }
  return {};
}

/// @return bytes that came, 0 if none are there
Result<std::size_t> Connection::receive(std::span<std::byte> first, std::span<std::byte> second) {
  std::array<iovec, 2> parts{iovec{.iov_base = first.data(), .iov_len = first.size()},
                             iovec{.iov_base = second.data(), .iov_len = second.size()}};
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  ssize_t count = 0;
  do count = ::recvmsg(descriptor(), &message, 0);
  while (count < 0 && errno == EINTR);
  if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return std::size_t{0};
  if (count < 0) return broken(system_message(errno));
  if (count == 0) return broken("the server closed it");
  return static_cast<std::size_t>(count);
}

Status Connection::feed(std::string_view bytes) {
  if (bytes.empty() || redisReaderFeed(context_->reader, bytes.data(), bytes.size()) == REDIS_OK) return {};
  return broken(context_->reader->errstr);
}

Status Connection::feed_or_begin_string(std::string_view bytes, Expected& awaited) {
  const std::size_t line = bytes.find("\r\n");
  std::size_t length = 0;
  const char* const digits = bytes.data() + 1;
  const bool is_string = bytes.starts_with('$') && line != std::string_view::npos &&
                         std::from_chars(digits, bytes.data() + line, length).ptr == bytes.data() + line;
  const std::string_view begun = is_string ? bytes.substr(line + 2) : std::string_view();
  if (!is_string || length > awaited.into.size() || length <= begun.size()) return feed(bytes);
  std::memcpy(awaited.into.data(), begun.data(), begun.size());
  awaited.is_direct = true;
  awaited.filled = begun.size();
  rest_ = length - begun.size();
  return feed("$0\r\n");  // hiredis sees an empty string, and the end of the long one as its end
}

Status Connection::read(Expected* awaited) {
  room_.resize(bytes_a_read);
  const auto text = [&](std::size_t length) { return std::string_view(reinterpret_cast<char*>(room_.data()), length); };
  const std::span room(room_);
  if (awaited && rest_ > 0) {
    // With its end, and nothing of the next reply: that may be a long one as well.
    const auto count = receive(awaited->into.subspan(awaited->filled, rest_), room.first(2));
    if (!count) return propagate(count);
    const std::size_t taken = std::min(*count, rest_);
    awaited->filled += taken;
    rest_ -= taken;
    return feed(text(*count - taken));
  }
  const redisReader& reader = *context_->reader;
  const bool is_between =
      reader.len == reader.pos && (reader.ridx < 0 || (reader.ridx == 0 && reader.rstack[0].type < 0));
  const bool is_long = is_between && awaited && awaited->into.size() >= long_string;
  const auto count = receive(room.first(is_long ? beginning : room.size()), {});
  if (!count) return propagate(count);
  return is_long ? feed_or_begin_string(text(*count), *awaited) : feed(text(*count));
}

Result<Reply> Connection::next_reply(Expected& expected) {
  redisReader& reader = *context_->reader;
  reader.privdata = &expected;
  void* made = nullptr;
  if (redisReaderGetReply(&reader, &made) != REDIS_OK)
    return broken(reader.err == REDIS_ERR_OOM ? "its reply is larger than what was asked for" : reader.errstr);
  const std::size_t waiting = reader.len - reader.pos;
  if (!made && waiting > expected.into.size() + expected.most_bytes + slack)
    return broken("its reply is larger than what was asked for");
  // hiredis looks for the end of a line anew whenever more of it has come.
  if (!made && waiting > longest_line &&
      std::string_view(reader.buf + reader.pos, longest_line).find("\r\n") == std::string_view::npos)
    return broken("its reply is no reply");
  return Reply(static_cast<redisReply*>(made));
}

Result<std::vector<Reply>> Connection::ask(std::span<Command> commands, Duration timeout) {
  for (Command& command : commands) send(command);
  std::vector<Reply> replies;
  const TimePoint end = SteadyClock{}.now() + timeout;
  while (replies.size() < commands.size()) {
    auto reply = next_reply(commands[replies.size()].expected);
    if (!reply) return propagate(reply);
    if (*reply) {
      replies.push_back(std::move(*reply));
      continue;
    }
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - SteadyClock{}.now()).count();
    if (left <= 0) return silent(address_, timeout);
    pollfd state{.fd = descriptor(), .events = POLLIN, .revents = 0};
    if (has_to_write()) state.events |= POLLOUT;
    const int ready = ::poll(&state, 1, static_cast<int>(std::min<long long>(left, 60'000)));
    if (ready < 0 && errno != EINTR) return broken(system_message(errno));
    if (ready <= 0) continue;
    if ((state.revents & POLLOUT) != 0)
      if (const Status status = write(); !status) return propagate(status);
    if ((state.revents & (POLLIN | POLLHUP | POLLERR)) != 0)
      if (const Status status = read(nullptr); !status) return propagate(status);
  }
  return replies;
}

}  // namespace krul::redis
