#pragma once

#include <hiredis.h>

#include <compare>
#include <cstddef>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "krul/core/clock.hpp"
#include "krul/core/error.hpp"
#include "krul/redis/redis_options.hpp"

namespace krul::redis {

/// Whole milliseconds, as the server's commands have them.
[[nodiscard]] std::string in_ms(Duration duration);

struct Address {
  std::string host;
  int port = 0;
  friend auto operator<=>(const Address&, const Address&) = default;
  [[nodiscard]] std::string text() const;
};

struct FreeReply {
  void operator()(redisReply* reply) const noexcept { freeReplyObject(reply); }
};
using Reply = std::unique_ptr<redisReply, FreeReply>;

/// What a command may be answered with, and what of it has come. Anything larger ends the connection before it is
/// stored.
struct Expected {
  std::span<std::byte> into = {};    ///< where a string goes; it has at most this length
  std::size_t most_bytes = 4096;     ///< of all other strings together
  std::size_t most_elements = 1024;  ///< of arrays, all together
  std::size_t filled = 0;            ///< bytes that went into `into`
  std::size_t bytes = 0;             ///< of other strings
  std::size_t elements = 0;
  bool is_direct = false;  ///< the string goes from the socket into `into`, past hiredis
};

struct Command {
  std::vector<std::string> words;
  std::span<const std::byte> value = {};  ///< the last argument, if it is not empty; has to outlive the command
  Expected expected = {};                 ///< has to stay where it is until the reply is there
};

/// One connection, which never blocks: whoever has it waits for its descriptor. Pipelined: replies come in the order of
/// the commands. After an error it can only be destroyed.
class Connection {
 public:
  /// Connects and logs in.
  /// @param until  when the caller has no use for it any more
  [[nodiscard]] static Result<Connection> open(const Address& address, const RedisStoreOptions& options,
                                               TimePoint until = TimePoint::max());

  [[nodiscard]] int descriptor() const { return context_->fd; }
  [[nodiscard]] const Address& address() const noexcept { return address_; }
  /// How long it took to connect: a round trip, or longer.
  [[nodiscard]] Duration connected_in() const noexcept { return connected_in_; }
  /// Whether it is still open and nothing comes that nobody asked for.
  [[nodiscard]] bool is_quiet() const;

  /// Puts a command in line to be written.
  void send(Command& command);
  [[nodiscard]] bool has_to_write() const noexcept { return !unwritten_.empty(); }
  /// Writes what the socket takes.
  [[nodiscard]] Status write();
  /// Reads what is there, or some of it. A long string that `awaited` (of the next reply, if it is known) has room for
  /// goes there at once.
  [[nodiscard]] Status read(Expected* awaited);
  /// The next reply, or none if it is not there yet.
  [[nodiscard]] Result<Reply> next_reply(Expected& expected);

  /// Sends commands and waits for their replies.
  [[nodiscard]] Result<std::vector<Reply>> ask(std::span<Command> commands, Duration timeout);

 private:
  struct FreeContext {
    void operator()(redisContext* context) const noexcept { redisFree(context); }
  };
  /// Bytes to write: its own or somebody else's.
  struct Piece {
    std::string own;
    std::span<const std::byte> lent;
    [[nodiscard]] std::span<const std::byte> bytes() const {
      return lent.empty() ? std::as_bytes(std::span(own)) : lent;
    }
  };
  Connection(Address address, std::unique_ptr<redisContext, FreeContext> context);
  [[nodiscard]] tl::unexpected<Error> broken(const std::string& why) const;
  [[nodiscard]] Result<std::size_t> receive(std::span<std::byte> first, std::span<std::byte> second);
  [[nodiscard]] Status feed(std::string_view bytes);
  [[nodiscard]] Status feed_or_begin_string(std::string_view bytes, Expected& awaited);

  Address address_;
  std::unique_ptr<redisContext, FreeContext> context_;
  Duration connected_in_{};
  std::deque<Piece> unwritten_;
  std::size_t written_ = 0;  ///< bytes of the first piece
  std::vector<std::byte> room_;
  std::size_t rest_ = 0;  ///< bytes to come of a string that goes to its place at once
};

/// The error of a server that stayed silent.
[[nodiscard]] tl::unexpected<Error> silent(const Address& address, Duration timeout);

/// What a reply of type error means.
/// @param keys  that the command touches, where they are known
[[nodiscard]] tl::unexpected<Error> server_error(const Address& address, std::string_view text,
                                                 std::string_view keys = {});

[[nodiscard]] inline std::string_view text_of(const redisReply& reply) {
  return reply.str ? std::string_view(reply.str, reply.len) : std::string_view{};
}

}  // namespace krul::redis
