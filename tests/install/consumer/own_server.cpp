// A store on a server that nobody has: it can be asked for wherever krul is, and says what is wrong.

#include <cstdio>
#include <krul/redis/redis_store.hpp>

int main() {
  const auto options = krul::parse_redis_url("redis://127.0.0.1:1?prefix=garden");
  if (!options) return std::fprintf(stderr, "%s\n", options.error().message.c_str()), 1;
  const auto store = krul::RedisStore::open(*options);
  std::printf("%s\n", store ? "opened" : store.error().message.c_str());
  return store ? 1 : 0;
}
