//! The AMQP front end. One module per protocol: `v091` is AMQP 0-9-1 with RabbitMQ's extensions.
//! Sans-I/O: bytes and answers of the broker come in, bytes and requests to the broker go out. It
//! knows neither other protocols nor how records are stored.

pub mod v091;
